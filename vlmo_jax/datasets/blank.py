"""A data set with nothing to see on its images: what can be known from the texts alone."""

import dataclasses
import operator
import pathlib
from collections.abc import Sequence
from typing import Any

# One grey pixel, as a PPM file.
_IMAGE = b"P6 1 1 255\n" + bytes((128, 128, 128))


class BlankSource(Sequence):
    """Records of an opened split, whose images are all the same grey; can be pickled.

    Args:
        opened: the records.
        image_fields: of their kind.

    Attributes:
        directory, split, num_bytes: of the opened split.
    """

    def __init__(self, opened: Any, image_fields: Sequence[str]) -> None:
        self.directory: pathlib.Path = opened.directory
        self.split: str = opened.split
        self.num_bytes: int = opened.num_bytes
        self._read = getattr(opened, "without_images", opened.__getitem__)
        self._length, self._blank = len(opened), dict.fromkeys(image_fields, _IMAGE)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]  # no slices
        return dataclasses.replace(self._read(operator.index(index)), **self._blank)

    def __repr__(self) -> str:
        return f"BlankSource({str(self.directory)!r}, {self.split!r}, {len(self)} records)"
