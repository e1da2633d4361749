"""The tensors of a file as conversion reads them: one by one, as finite float32."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

HALF_TYPES = ("float16", "bfloat16")
REMAP_BYTES = 2**27


class Float32Tensors(Mapping[str, np.ndarray]):
    """The tensors of a file as they are asked for: floats as finite float32, other types as they
    are.

    A mapped file counts as memory of this process as far as it was read; it is mapped anew now and
    then.

    Args:
        read: function of no arguments that gives name -> array.
        mapped: whether the arrays are views of a mapped file.
        bar: has `total` and `update()`, called once a tensor.

    Attributes:
        types: name -> name of the type, of half-precision tensors.

    Raises:
        ValueError: from indexing, for a tensor that is not finite or of a type that float32 cannot
            hold.
    """

    def __init__(
        self, read: Callable[[], Mapping[str, np.ndarray]], *, mapped: bool, bar: Any
    ) -> None:
        self._read, self._mapped, self._bar = read, mapped, bar
        self._tensors = read()
        self._seen: set[str] = set()
        self._bytes = 0
        bar.total = len(self._tensors)
        self.types = {
            name: t.dtype.name for name, t in self._tensors.items() if t.dtype.name in HALF_TYPES
        }

    def __len__(self) -> int:
        return len(self._tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> np.ndarray:
        if self._mapped and self._bytes > REMAP_BYTES:
            self._tensors = {}  # lets go of the file before it is mapped again
            self._tensors, self._bytes = self._read(), 0
        tensor = self._tensors[name]
        self._bytes += tensor.nbytes
        if name not in self._seen:
            self._seen.add(name)
            self._bar.update()
        if tensor.dtype.kind in "iub":
            return tensor
        if tensor.dtype.name not in ("float32", *HALF_TYPES):
            raise ValueError(
                f"{name}: {tensor.dtype}, where float32, float16 or bfloat16 is wanted; convert it"
                " to float32 first"
            )
        tensor = tensor.astype(np.float32, copy=False)
        if not np.isfinite(tensor).all():
            raise ValueError(
                f"{name}: {int((~np.isfinite(tensor)).sum())} of {tensor.size} values are not"
                " finite; training went astray there"
            )
        return tensor
