"""The tensors of a file as conversion reads them: one by one, as finite float32."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

# Types of which float32 holds all values, and float64, of which it holds some.
EXACT_FLOATS = (
    *("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
)
FLOATS = (*EXACT_FLOATS, "float64")
REMAP_BYTES = 2**24


class Float32Tensors(Mapping[str, np.ndarray]):
    """The tensors of a file as they are asked for: floats as finite float32, whole numbers as they
    are.

    A mapped file counts as memory of this process as far as it was read; it is mapped anew now and
    then.

    Args:
        read: function of no arguments that gives name -> array.
        mapped: whether the arrays are views of a mapped file.
        bar: has `total` and `update()`, called once a tensor.

    Attributes:
        types: name -> name of the type, of tensors that are not float32.
        taken_off: what `read` says that it took off the names, "" if nothing.

    Raises:
        ValueError: from indexing, for a tensor that is not finite or has values that float32 cannot
            hold.
    """

    def __init__(
        self, read: Callable[[], Mapping[str, np.ndarray]], *, mapped: bool, bar: Any
    ) -> None:
        self._read, self._mapped, self._bar = read, mapped, bar
        self._tensors = read()
        self.taken_off: str = getattr(self._tensors, "taken_off", "")
        self._seen: set[str] = set()
        self._bytes = 0
        bar.total = len(self._tensors)
        self.types = {
            name: tensor.dtype.name
            for name, tensor in self._tensors.items()
            if tensor.dtype.name != "float32"
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
        return as_float32(name, tensor)


def as_float32(name: str, tensor: np.ndarray) -> np.ndarray:
    """A tensor as finite float32, where that keeps every value.

    Args:
        name: of the tensor, for messages.
        tensor: of any numeric type.

    Raises:
        ValueError: a value is not finite, or float32 cannot hold it.
    """
    if tensor.dtype.kind not in "iub" and tensor.dtype.name not in ("float32", *FLOATS):
        raise ValueError(
            f"{name}: {tensor.dtype}, where float32 or a type that it can hold is wanted; convert"
            " it to float32 first"
        )
    if tensor.dtype.name == "float32":
        exact = tensor
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            exact = tensor.astype(np.float32)
    if tensor.dtype.kind in "iub" or tensor.dtype.name == "float64":
        _check_exact(name, tensor, exact)
    if not np.isfinite(exact).all():
        raise ValueError(
            f"{name}: {int((~np.isfinite(exact)).sum())} of {exact.size} values are not finite;"
            " training went astray there"
        )
    return exact


def _check_exact(name: str, tensor: np.ndarray, exact: np.ndarray) -> None:
    """Refuses values that became others as float32; NaN counts as kept."""
    with np.errstate(over="ignore", invalid="ignore"):
        back = exact.astype(np.float64)
        lost = ~((back == tensor) | ((tensor != tensor) & np.isnan(back)))
        if tensor.dtype.kind in "iu":  # float64 rounds the largest ones too
            lost |= np.abs(back) > 2**53
    if lost.any():
        value = tensor[lost].flat[0]
        raise ValueError(
            f"{name}: {tensor.dtype}, where float32 is wanted, which cannot hold {value!r} and"
            f" {int(lost.sum()) - 1:,} more of its values; convert it to float32 first"
        )
