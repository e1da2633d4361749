"""Conceptual Captions (CC3M): tables of captions and URLs, and images that were downloaded.

Format `cc3m`; one of the two tables is enough:

    SRC/Train_GCC-training.tsv              caption TAB URL, no header
    SRC/Validation_GCC-1.1.0-Validation.tsv

Nothing in the tables says how an image file is called. It is found in one of three ways, for the
training table; the second name is the one for validation. The first that is there counts:

1. SRC/images_train.tsv or SRC/images_validation.tsv: a table that says it, URL TAB path below SRC,
   for whatever downloader has its own names.
2. SRC/images_train or SRC/images_val, as VLMo and ViLT have them: a file's name is the number of
   its line in the table, counted from 0, with or without an ending, in whatever subfolder, such as
   images_train/0001/0001234. A number that the table does not have is an error: then they were
   counted from 1, or from another table.
3. SRC/training or SRC/validation, as DownloadConceptualCaptions names them: the CRC-32 of the URL
   as a decimal number. Two URLs with one checksum (among millions there are some) share a file, and
   both are left out, as nobody knows whose image it is.

Many of the URLs are dead. A line without an image is left out, counted and named, and never shifts
the others; how many may be is `--max_broken`. The images of img2dataset are formats of their own,
and VLMo's and ViLT's lists of paths and captions are `annot_json`.

Splits: "train" and "validation". Ids are "cc3m/train/0001234": the line, counted from 0.

Names of files and URLs are held in memory: 0.4 KiB an image, measured with 200,000 made-up lines of
checksums, so 1.3 GiB in all.
"""

import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.captioned_images import (
    CaptionedImagesReader,
    Listed,
    NoFile,
    caption,
)
from vlmo_jax.datasets.readers.download_folder import find_file_or_none, numbered_images
from vlmo_jax.datasets.readers.download_reader import Counts
from vlmo_jax.datasets.readers.json_lists import is_name
from vlmo_jax.datasets.readers.places import InFile
from vlmo_jax.datasets.readers.plain_text import read_lines

_TABLES = {
    "train": "Train_GCC-training.tsv",
    "validation": "Validation_GCC-1.1.0-Validation.tsv",
}
_BY_LINE = {"train": "images_train", "validation": "images_val"}
_BY_CHECKSUM = {"train": "training", "validation": "validation"}
_PUBLISHED = {"train": {"images": 3_318_333}, "validation": {"images": 15_840}}
Finder = Callable[[int, str], InFile | NoFile]  # of a line, counted from 0, and its URL


class ConceptualCaptionsReader(CaptionedImagesReader):
    """Reads the tables and their images.

    Args:
        source: folder of the download.

    Raises:
        MissingDataError: the folder or both tables are not there.
    """

    description = "Conceptual Captions (CC3M), as far as its images could be downloaded."

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        found = {split: find_file_or_none(source, name) for split, name in _TABLES.items()}
        self._tables = {split: path for split, path in found.items() if path}
        if not self._tables:
            raise MissingDataError(
                f"{source} has no {' or '.join(_TABLES.values())}, nor has a folder in it; put"
                " one there"
            )
        self.published: Counts = {split: _PUBLISHED[split] for split in self._tables}

    def sources(self) -> list[pathlib.Path]:
        """The tables, and those that say where images lie."""
        paths = (self.source / f"images_{split}.tsv" for split in self._tables)
        return [*self._tables.values(), *filter(pathlib.Path.is_file, paths)]

    def _listed(self) -> Iterator[Listed]:
        for split, path in self._tables.items():
            find = self._finder(split, path)
            for number, (where, (text, url)) in enumerate(_rows(path, "caption TAB URL")):
                image_id = f"cc3m/{split}/{number:07d}"
                yield Listed(split, image_id, find(number, url), [caption(text, where)], where)

    def _finder(self, split: str, table: pathlib.Path) -> Finder:
        """What finds the images of a table."""
        names = self.source / f"images_{split}.tsv"
        by_line, by_checksum = self.source / _BY_LINE[split], self.source / _BY_CHECKSUM[split]
        if names.is_file():
            return _named(names)
        if by_line.is_dir():
            return _by_line(numbered_images(self.source, by_line), table)
        if by_checksum.is_dir():
            return _by_checksum(numbered_images(self.source, by_checksum), table)
        raise MissingDataError(
            f"{self.source} has none of {names.name}, {by_line.name} and {by_checksum.name}, which"
            f" lead to the images of {table.name}; the documentation of this format says how"
        )


def _place(paths: Mapping[Any, str], key: Any, otherwise: str) -> InFile | NoFile:
    return InFile(paths[key]) if key in paths else NoFile(otherwise)


def _named(names: pathlib.Path) -> Finder:
    paths: dict[str, str] = {}
    for where, (url, path) in _rows(names, "URL TAB path"):
        if paths.setdefault(url, path) != path or not is_name(path):
            raise DataError(f"{where} has no path for {url[:80]}, or another than before")
    return lambda _, url: _place(paths, url, f"{names.name} has no path for {url[:200]}")


def _by_line(found: dict[int, str], table: pathlib.Path) -> Finder:
    total = sum(1 for _ in read_lines(table))
    beyond = max(found, default=-1)
    if beyond >= total:
        raise DataError(
            f"{found[beyond]} is no line of {table}, whose {total} lines are counted from 0; rename"
            " the images, or say where they are in a table of URLs and paths"
        )
    return lambda line, _: _place(found, line, f"no image is called {line}")


def _by_checksum(found: dict[int, str], table: pathlib.Path) -> Finder:
    urls: dict[int, str] = {}
    shared = set()
    for _, (_, url) in _rows(table, "caption TAB URL"):
        checksum = zlib.crc32(url.encode())
        if checksum in found and urls.setdefault(checksum, url) != url:
            shared.add(checksum)

    def find(line: int, url: str) -> InFile | NoFile:
        checksum = zlib.crc32(url.encode())
        if checksum in shared:
            return NoFile(f"the file {checksum} is that of two URLs")
        return _place(found, checksum, f"no image is called {checksum}")

    return find


def _rows(path: pathlib.Path, form: str) -> Iterator[tuple[str, list[str]]]:
    """Where a line of two fields stands, and the fields."""
    for number, line in enumerate(read_lines(path), 1):
        where, fields = f"{path} line {number}", [field.strip() for field in line.split("\t")]
        if len(fields) != 2:
            raise DataError(f"{where} has {len(fields)} fields; it must be {form}")
        yield where, fields
