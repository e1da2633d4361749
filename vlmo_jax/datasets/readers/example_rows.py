"""Rows of files of one's own for questions and statements: JSON lines and tables, one file or one a
split.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.download_walk import walk_all
from vlmo_jax.datasets.readers.image_paths import (
    ImageFinder,
    Match,
    has_image_suffix,
    match_notes,
    without_rivals,
)
from vlmo_jax.datasets.readers.json_lines import read_objects
from vlmo_jax.datasets.readers.plain_text import whole

SUFFIXES = (".jsonl", ".csv", ".tsv")
WHOLE = ("questions", "statements", "data", "annotations")  # names of files that are no split


class Row(NamedTuple):
    """One row.

    Attributes:
        where: file and line, for messages.
        split: that of the row, or of its file.
        values: by the name of the column, in lower case.
    """

    where: str
    split: str
    values: Mapping[str, Any]

    def text(self, name: str, *, needed: bool = True) -> str:
        """A text with single blanks; "" where it is blank, or not `needed` and not there.

        Raises:
            DataError: it is needed and missing, or is no text.
        """
        value = self.values.get(name)
        if value is None and not needed:
            return ""
        if isinstance(value, bool | list | dict) or value is None:
            self._refuse(name, "no" if value is None else f"{value!r} as")
        return " ".join(whole(str(value), self.where).split())

    def image(self, name: str) -> str:
        """What names an image; errors as of `text`, also where it is blank."""
        return self.text(name) or self._refuse(name, "no")

    def _refuse(self, name: str, found: str) -> NoReturn:
        has = [key for key, value in self.values.items() if value != ""]
        raise DataError(f"{self.where} has {found} {name!r}; it has {', '.join(has) or 'nothing'}")


class RowFiles:
    """Files of rows at the top of a folder of images.

    Args:
        source: the folder.
        images: the columns that name images.
        others: the other columns that are read.
        example: a row, for messages.
    """

    def __init__(
        self, source: Path, images: Sequence[str], others: Sequence[str], example: str
    ) -> None:
        self._source, self._example = source, example
        self._images, self._known = images, {*images, *others, "split"}
        self._matches: dict[str, Match] = {}
        self._unread: dict[str, None] = {}

    def files(self) -> list[Path]:
        """The files of rows, in the order of their names.

        Raises:
            MissingDataError: there is none.
        """
        found = sorted(
            p for p in self._source.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()
        )
        if not found:
            raise MissingDataError(
                f"{self._source} has no {', '.join('*' + s for s in SUFFIXES)} file; make one with"
                f" a line such as {self._example} for each example"
            )
        return found

    def rows(self) -> Iterator[Row]:
        """Finds the images that all rows name, and yields the rows, file by file.

        Raises:
            MissingDataError, DataError: there is no file, or a row cannot be read.
        """
        names = (row.image(column) for row in self._rows() for column in self._images)
        self._matches = self._find_all(dict.fromkeys(names))
        yield from self._rows()

    def find(self, name: str) -> tuple[str, str]:
        """The path of an image below the folder that a row names, and "" or why there is none."""
        match = self._matches[name]
        return match.path or "", "" if match.path else match.problem

    def notes(self) -> list[str]:
        """Lines about what was read in another way than it stands there, and what was not."""
        unread = [f"columns that are not read: {', '.join(self._unread)}"] if self._unread else []
        return [*match_notes(self._matches), *unread]

    def _find_all(self, names: Iterable[str]) -> dict[str, Match]:
        paths = (folder.at(name) for folder in walk_all(self._source) for name in folder.files)
        finder = ImageFinder(self._source, sorted(filter(has_image_suffix, paths)))
        return without_rivals({name: finder.find(name) for name in names})

    def _rows(self) -> Iterator[Row]:
        for path in self.files():
            default = "train" if path.stem.lower() in WHOLE else re.sub(r"\W+", "_", path.stem)
            read = _json_rows if path.suffix.lower() == ".jsonl" else _table_rows
            for where, values in read(path):
                self._unread |= dict.fromkeys(name for name in values if name not in self._known)
                split = str(values.get("split") or default).strip()
                if not split.isidentifier():
                    raise DataError(
                        f"{where} has split {split!r}; use letters, digits and _, a letter first"
                    )
                yield Row(where, split, values)


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for where, row in read_objects(path):
        yield where, _by_name(row.items(), where)


def _table_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    header: Sequence[str] = ()
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            for fields in reader:
                where = f"{path} line {reader.line_num}"
                if not any(field.strip() for field in fields):
                    continue
                if not header:
                    header = fields
                    continue
                if len(fields) != len(header):
                    raise DataError(
                        f"{where} has {len(fields)} fields and the header {len(header)}"
                        f" ({', '.join(header)}); put quotes around texts that hold the separator"
                    )
                yield where, _by_name(zip(header, fields, strict=True), where)
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}; save it so") from error


def _by_name(pairs: Iterable[tuple[str, Any]], where: str) -> dict[str, Any]:
    """The values of a row by the names of their columns; what has no name is left out."""
    found: dict[str, Any] = {}
    for given, value in pairs:
        name = given.strip().lower()
        if name in found:
            raise DataError(f"{where} has two columns called {name!r}; take one of them away")
        if name:
            found[name] = value
    return found
