"""Rows of files of one's own for questions and statements: JSON lines and tables, one file or one a
split.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.image_paths import ImageFinder, has_image_suffix

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
        """A text with single blanks; "" where it is not `needed` and not there.

        Raises:
            DataError: it is needed and missing, or is no text.
        """
        value = self.values.get(name)
        if value is None and not needed:
            return ""
        if isinstance(value, bool | list | dict) or value is None:
            found = "no" if value is None else f"{value!r} as"
            raise DataError(
                f"{self.where} has {found} {name!r}; it has {', '.join(self.values) or 'nothing'}"
            )
        return " ".join(str(value).split())


class Folder:
    """A folder of images, and files of rows at its top.

    Args:
        source: the folder.
        example: a row, for messages.
    """

    def __init__(self, source: Path, example: str) -> None:
        self._source, self._example = Path(source), example
        self._finder: ImageFinder | None = None

    def files(self) -> list[Path]:
        """The files of rows, in the order of their names.

        Raises:
            MissingDataError: there is none.
        """
        paths = self._source.iterdir() if self._source.is_dir() else iter(())
        found = sorted(path for path in paths if path.suffix.lower() in SUFFIXES)
        if not found:
            raise MissingDataError(
                f"{self._source} has no {', '.join('*' + s for s in SUFFIXES)} file; make one with"
                f" a line such as {self._example} for each example"
            )
        return found

    def rows(self) -> Iterator[Row]:
        """All rows, file by file.

        Raises:
            MissingDataError, DataError: there is no file, or a row cannot be read.
        """
        for path in self.files():
            whole = path.stem.lower() in WHOLE
            default = "train" if whole else re.sub(r"\W+", "_", path.stem)
            read = _json_rows if path.suffix.lower() == ".jsonl" else _table_rows
            try:
                for where, values in read(path):
                    split = str(values.get("split") or default).strip()
                    if not split.isidentifier():
                        raise DataError(
                            f"{where} has split {split!r}; use letters, digits and _, a letter"
                            " first"
                        )
                    yield Row(where, split, values)
            except UnicodeDecodeError as error:
                raise DataError(f"{path} is not UTF-8: {error}; save it so") from error

    def find(self, name: str) -> tuple[str, str]:
        """The path of an image below the folder that a row names, and "" or why there is none."""
        if self._finder is None:
            paths = (
                path.relative_to(self._source).as_posix()
                for path in sorted(self._source.rglob("*"))
                if has_image_suffix(path.name)
            )
            self._finder = ImageFinder(self._source, paths)
        match = self._finder.find(name)
        return match.path or "", "" if match.path else match.problem


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path} line {number}"
            try:
                values = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise DataError(f"{where} is no JSON: {error}; each line is an object") from error
            if not isinstance(values, dict):
                raise DataError(f"{where} must be an object, not {line.strip()[:40]}")
            yield where, {str(key).strip().lower(): value for key, value in values.items()}


def _table_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        header: Sequence[str] = ()
        try:
            for fields in reader:
                where = f"{path} line {reader.line_num}"
                if not any(field.strip() for field in fields):
                    continue
                if not header:
                    header = [field.strip().lower() for field in fields]
                    continue
                if len(fields) != len(header):
                    raise DataError(
                        f"{where} has {len(fields)} fields and the header {len(header)}"
                        f" ({', '.join(header)}); put quotes around texts that hold the separator"
                    )
                values = zip(header, fields, strict=True)
                yield where, {name: field for name, field in values if field.strip()}
        except csv.Error as error:
            raise DataError(f"{path} line {reader.line_num} cannot be read: {error}") from error
