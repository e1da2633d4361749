"""Lists of paths and captions, which the scripts of VLMo and ViLT take for CC3M and SBU.

Format `annot_json`; the files that are there are read:

    SRC/train_annot.json                    CC3M: [["images_train/0000/0000000", "a caption"], ...]
    SRC/val_annot.json
    SRC/images_train/0000/0000000           with or without an ending, as the list has it
    SRC/images_val/0000/0000000

    SRC/annot.json                          SBU: the same form, of the split "train"
    SRC/images_train/0000/0000000

Paths are relative to SRC; of a path of another machine what begins with images_train or images_val
counts. Splits: "train" and "validation" (val_annot.json). Ids are the paths, after "cc3m/" or
"sbu/". Each path stands in one entry; missing images are left out, counted and named.

The published counts are those of all URLs; such a list holds what could be downloaded.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.captioned_images import CaptionedImagesReader, Listed, caption
from vlmo_jax.datasets.readers.download_reader import Counts
from vlmo_jax.datasets.readers.json_lists import is_name, read_items
from vlmo_jax.datasets.readers.places import InFile
from vlmo_jax.datasets.readers.plain_text import whole


class _List(NamedTuple):
    prefix: str
    split: str
    images: int  # published


LISTS = {
    "train_annot.json": _List("cc3m", "train", 3_318_333),
    "val_annot.json": _List("cc3m", "validation", 15_840),
    "annot.json": _List("sbu", "train", 1_000_000),
}


class AnnotJsonReader(CaptionedImagesReader):
    """Reads the lists and their images.

    Args:
        source: folder of the download.

    Raises:
        MissingDataError: the folder or all lists are not there.
        DataError: there are lists of both data sets.
    """

    description = "Images of a list of paths and captions, in the form of VLMo and ViLT."

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        self._lists = {name: row for name, row in LISTS.items() if (source / name).is_file()}
        if not self._lists:
            raise MissingDataError(f"{source} has no {', '.join(LISTS)}; put one there")
        if len({row.prefix for row in self._lists.values()}) > 1:
            raise DataError(
                f"{source} has {' and '.join(self._lists)}, of CC3M and of SBU; keep each in a"
                " folder of its own"
            )
        self.published: Counts = {row.split: {"images": row.images} for row in self._lists.values()}

    def sources(self) -> list[pathlib.Path]:
        """The lists."""
        return [self.source / name for name in self._lists]

    def _listed(self) -> Iterator[Listed]:
        for name, row in self._lists.items():
            for number, (_, where, pair) in enumerate(read_items(self.source / name)):
                path, text = _pair(pair, where)
                if not number:
                    self._check_folder(path)
                yield Listed(row.split, f"{row.prefix}/{path}", InFile(path), [text], where)

    def _check_folder(self, path: str) -> None:
        top = path.partition("/")[0]
        if not (self.source / top).exists():
            raise MissingDataError(f"{self.source} has no {top}; put the folder of images there")


def _pair(pair: Any, where: str) -> tuple[str, str]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise DataError(f"{where} is {repr(pair)[:60]}; it must be [path, caption]")
    path = pair[0]
    if not is_name(path):
        raise DataError(f"{where} has {repr(path)[:60]} where a path must be")
    path = re.sub(r"^.*?(?=images_(?:train|val)/)", "", whole(path, where))
    return path, caption(pair[1], where)
