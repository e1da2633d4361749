"""Reads captions files (JSONL, CSV, TSV) and gathers the rows of each image."""

import csv
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

KEYS = {
    "image": (
        "file_name",
        "filename",
        "image_path",
        "filepath",
        "path",
        "file",
        "image_name",
        "image",
    ),
    "text": ("texts", "captions", "sentences", "text", "caption", "sentence"),
    "keywords": ("keywords", "tags"),
    "split": ("split",),
}
SUFFIXES = (".jsonl", ".csv", ".tsv")


@dataclasses.dataclass
class CaptionedImage:
    """What a captions file says of one image.

    Attributes:
        path: the path of the image as the folder has it, "/" between its parts.
        texts: its captions, each once, blank ones left out.
        keywords: its tags, each once.
        split: the split the file gives it, or None.
        blank: number of blank captions that were left out.
    """

    path: str
    texts: list[str] = dataclasses.field(default_factory=list)
    keywords: list[str] = dataclasses.field(default_factory=list)
    split: str | None = None
    blank: int = 0


def find_captions_file(folder: pathlib.Path) -> pathlib.Path:
    """Returns the one captions file at the top of a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise FileNotFoundError(
            f"{folder} has no captions file ({', '.join('*' + suffix for suffix in SUFFIXES)});"
            ' name one with --captions FILE, of lines such as {"image": "cat.jpg", "text":'
            ' "a cat on a mat"} or with a header line such as image,text'
        )
    if len(found) > 1:
        raise ValueError(
            f"{folder} has several captions files ({', '.join(path.name for path in found)}); "
            "say which one with --captions FILE"
        )
    return found[0]


def read_captions(
    path: pathlib.Path, folder_paths: Iterable[str]
) -> tuple[list[CaptionedImage], list[str]]:
    """Reads a captions file and gathers the rows of each image.

    A row names an image by its path in the folder, or by its file name alone where just one file
    has that name.

    Args:
        path: a .jsonl, .csv or .tsv file in UTF-8 with the keys (columns, in any case) that `KEYS`
            lists: an image, its captions (a string or, in JSONL, a list), maybe keywords (a list,
            or a string with commas) and maybe a split. Several rows may speak of the same image.
            White space within a caption becomes single blanks.
        folder_paths: paths of the image files relative to the folder, "/" between their parts.

    Returns:
        The images in the order in which they first appear, and the names that no image (or more
        than one) answers to, in order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, a row cannot be read or lacks a key, or rows
            disagree on an image's split.
    """
    finder = _ImageFinder(folder_paths)
    found: dict[str, CaptionedImage] = {}
    missing: dict[str, None] = {}
    for where, row in _rows(path):
        row = {str(key).strip().lower(): value for key, value in row.items()}
        name = str(_value(row, "image", where)).strip()
        image_path = finder.find(name)
        if image_path is None:
            missing[name] = None
            continue
        image = found.setdefault(image_path, CaptionedImage(image_path))
        texts = _strings(_value(row, "text", where), where) or [""]
        image.blank += texts.count("")
        _add_new(image.texts, texts)
        keywords = _value(row, "keywords", where)
        _add_new(
            image.keywords,
            _strings(keywords.split(",") if isinstance(keywords, str) else keywords, where),
        )
        split = _value(row, "split", where)
        if split and image.split and split != image.split:
            raise ValueError(
                f"{where} puts image {image_path} into split {split!r}, an earlier row into"
                f" {image.split!r}"
            )
        image.split = split or image.split
    return list(found.values()), list(missing)


class _ImageFinder:
    """Finds files by their path, or by their name if it is unique."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = set(paths)
        self._by_name: dict[str, str | None] = {}
        for path in self._paths:
            name = path.rpartition("/")[2]
            self._by_name[name] = None if name in self._by_name else path

    def find(self, name: str) -> str | None:
        path = name.replace("\\", "/").removeprefix("./")
        return path if path in self._paths else self._by_name.get(path)


def _rows(path: pathlib.Path) -> Iterator[tuple[str, Mapping]]:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"captions file {path} must end in {', '.join(SUFFIXES)}")
    # utf-8-sig, as spreadsheets put a byte order mark before the header.
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            yield from (
                _json_rows(file, path) if suffix == ".jsonl" else _table_rows(file, path, suffix)
            )
        except UnicodeDecodeError as error:
            raise ValueError(
                f"captions file {path} is not UTF-8: {error}; save it as UTF-8"
            ) from error


def _json_rows(file: Iterable[str], path: pathlib.Path) -> Iterator[tuple[str, Mapping]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(
                f'{where} must be an object such as {{"image": "cat.jpg", "text": "a cat"}}, '
                f"not {line.strip()[:60]}"
            )
        yield where, row


def _table_rows(
    file: Iterable[str], path: pathlib.Path, suffix: str
) -> Iterator[tuple[str, Mapping]]:
    csv.field_size_limit(2**30)
    reader = csv.DictReader(
        file, dialect="excel-tab" if suffix == ".tsv" else "excel", restval=None, restkey=""
    )
    try:
        for row in reader:
            where = f"{path} line {reader.line_num}"
            if "" in row:
                header = ", ".join(reader.fieldnames or ())
                raise ValueError(
                    f"{where} has more fields than the header ({header}); put quotes around"
                    " captions that hold the separator"
                )
            yield where, row
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num} cannot be read: {error}") from error


def _value(row: Mapping, kind: str, where: str):
    key = next((name for name in KEYS[kind] if name in row), None)
    if key is None and kind in ("image", "text"):
        raise ValueError(
            f"{where} has the keys {', '.join(row)}, of which none says the {kind}; "
            f"call it one of {', '.join(KEYS[kind])}"
        )
    if kind == "image" and not row[key]:
        raise ValueError(f"{where} has no value for {key}")
    return row.get(key)


def _strings(value, where: str) -> list[str]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    for item in values:
        if not isinstance(item, str):
            raise ValueError(f"{where} has {item!r} where a string or a list of strings must be")
    return [" ".join(item.split()) for item in values]


def _add_new(strings: list[str], new: Sequence[str]) -> None:
    strings.extend(dict.fromkeys(string for string in new if string and string not in strings))
