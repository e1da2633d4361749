"""Rows of captions files as plain mappings: JSON lines, JSON, tables with and without a header."""

import dataclasses
import io
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vlmo_jax.datasets.contents import describe_contents
from vlmo_jax.datasets.errors import CaptionsError, MissingDataError
from vlmo_jax.datasets.readers import tables
from vlmo_jax.datasets.readers.image_paths import has_image_suffix
from vlmo_jax.datasets.readers.json_lines import parse_json
from vlmo_jax.datasets.readers.keys import (
    EXAMPLE,
    find_key,
    normalize_key,
    numbered_keys,
    refuse_keys,
)

SUFFIXES = (".jsonl", ".csv", ".tsv")
OTHER_SUFFIXES = (".ndjson", ".json", ".txt")
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
Row = tuple[str, Mapping[str, Any]]


@dataclasses.dataclass
class Reading:
    """What was seen while a file was read, for the report.

    Attributes:
        rows: number of rows.
        joined: where a row runs over several lines.
        bare_quotes: where a field begins with a quotation mark that was taken as it stands.
        short: where a row has no field for the caption.
    """

    rows: int = 0
    joined: list[str] = dataclasses.field(default_factory=list)
    bare_quotes: list[str] = dataclasses.field(default_factory=list)
    short: list[str] = dataclasses.field(default_factory=list)

    def notes(self) -> list[str]:
        """Lines for the report about what is odd."""
        said = (
            (self.joined, "row(s) run over several lines"),
            (self.bare_quotes, "row(s) have a quotation mark that is not closed; it was kept"),
            (self.short, "row(s) end before their caption, which is missing"),
        )
        return [f"{len(where):,} {what}; the first is {where[0]}" for where, what in said if where]


def read_rows(
    path: pathlib.Path, is_image: Callable[[str], bool], reading: Reading
) -> Iterator[Row]:
    """Yields (where it stands, the row with normalized keys) of a captions file.

    Args:
        path: a file that ends in one of `SUFFIXES` or `OTHER_SUFFIXES`.
        is_image: whether a name leads to an image.
        reading: filled in.

    Raises:
        MissingDataError: there is no such file.
        CaptionsError: it is of another kind or cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in (*SUFFIXES, *OTHER_SUFFIXES):
        raise CaptionsError(
            f"captions file {path} must end in {', '.join((*SUFFIXES, *OTHER_SUFFIXES))}; save it"
            f" as one of these, with {EXAMPLE}"
        )
    if not path.is_file():
        raise MissingDataError(f"captions file {path}: there is no such file")
    with open(path, "rb") as file:
        encoding = _encoding(path, file.read(4096))
    with open(path, encoding=encoding, newline="") as text:
        try:
            rows = (
                _json_rows(text, path, lines=suffix in (".jsonl", ".ndjson"))
                if suffix in (".jsonl", ".ndjson", ".json")
                else _table_rows(list(text), path, suffix, is_image, reading)
            )
            for where, row in rows:
                reading.rows += 1
                yield where, {normalize_key(key): value for key, value in row.items()}
        except UnicodeError as error:
            raise CaptionsError(f"captions file {path} {_no_utf8(path, error)}") from error


def _encoding(path: pathlib.Path, head: bytes) -> str:
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head[:64] and len(head) > 1:  # UTF-16 without a mark, if it is text
        even, odd = head[0::2].count(0), head[1::2].count(0)
        if max(even, odd) > 0.4 * len(head) / 2 and min(even, odd) == 0:
            return "utf-16-le" if odd else "utf-16-be"
    what = describe_contents(head)
    if b"\0" in head or "pointer" in what or "archive" in what or "document" in what:
        raise CaptionsError(f"captions file {path} is no text but {what or 'something binary'}")
    return "utf-8"


def _no_utf8(path: pathlib.Path, error: UnicodeError) -> str:
    with open(path, "rb") as file:
        for number, data in enumerate(file, 1):
            try:
                data.decode("utf-8")
            except UnicodeDecodeError as found:
                return f"line {number} is not UTF-8: {found}; save it as UTF-8"
    return f"is not UTF-8: {error}; save it as UTF-8"


def _json_rows(file: io.TextIOBase | Any, path: pathlib.Path, *, lines: bool) -> Iterator[Row]:
    first = ""
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        if not first:
            first = line
            try:
                row = parse_json(line, where)
            except CaptionsError as error:
                yield from _whole_json(line + file.read(), path, error if lines else None)
                return
            rest = file.read() if not lines or not isinstance(row, dict) else ""
            if rest.strip() or not lines or isinstance(row, list):
                yield from _document_or_lines(line, rest, row, path, number)
                return
            yield where, _as_object(row, where, line)
            continue
        yield where, _as_object(parse_json(line, where), where, line)


def _document_or_lines(
    line: str, rest: str, row: Any, path: pathlib.Path, number: int
) -> Iterator[Row]:
    """Of a file whose first line is JSON by itself: a document of one line, or JSON lines."""
    if not rest.strip():
        yield from _document_rows(row, path)
        return
    yield f"{path} line {number}", _as_object(row, f"{path} line {number}", line)
    for more, text in enumerate(io.StringIO(rest, newline=""), number + 1):
        if text.strip():
            where = f"{path} line {more}"
            yield where, _as_object(parse_json(text, where), where, text)


def _whole_json(text: str, path: pathlib.Path, error: CaptionsError | None) -> Iterator[Row]:
    try:
        document = parse_json(text, f"captions file {path}")
    except CaptionsError:
        if error is not None:
            raise error from None
        raise
    yield from _document_rows(document, path)


def _as_object(row: Any, where: str, line: object) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise CaptionsError(
            f'{where} must be an object such as {{"image": "cat.jpg", "text": "a cat"}}, '
            f"not {str(line).strip()[:60]}"
        )
    return row


def _document_rows(document: Any, path: pathlib.Path) -> Iterator[Row]:
    """The rows of a whole JSON document."""
    if isinstance(document, list):
        if document and not isinstance(document[0], dict):
            _as_object(document[0], f"{path} line 1", json.dumps(document))
        for number, row in enumerate(document, 1):
            where = f"{path} entry {number}"
            yield where, _as_object(row, where, json.dumps(row))
        return
    if not isinstance(document, dict):
        raise CaptionsError(f"{path} holds {str(document)[:60]!r}, no captions; give {EXAMPLE}")
    keys = [normalize_key(key) for key in document]
    images, annotations = document.get("images"), document.get("annotations")
    if isinstance(images, list) and isinstance(annotations, list):
        yield from _coco_rows(images, annotations, path)
    elif isinstance(images, list):
        yield from _karpathy_rows(images, path)
    elif find_key(keys, "image") and (find_key(keys, "text") or numbered_keys(keys, "text")):
        yield f"{path} entry 1", document
    else:
        yield from _mapping_rows(document, path)


def _mapping_rows(document: Mapping[str, Any], path: pathlib.Path) -> Iterator[Row]:
    """Of {"cat.jpg": "a cat", "dog.jpg": ["a dog", "a puppy"]}, or of an object around a list."""
    lists = {
        key: value
        for key, value in document.items()
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    }
    if len(lists) == 1:
        yield from _document_rows(next(iter(lists.values())), path)
        return
    for key, value in document.items():
        where = f"{path} entry {key!r}"
        if isinstance(value, dict):
            yield where, {**value, "file_name": key}
        elif isinstance(value, str | list) or value is None:
            yield where, {"image": key, "texts": value}
        else:
            raise CaptionsError(
                f"{where} is {value!r}, no caption; accepted are a list of objects, COCO's"
                ' {"images": [...], "annotations": [...]} and {"cat.jpg": ["a cat"]}'
            )


def _coco_rows(images: list, annotations: list, path: pathlib.Path) -> Iterator[Row]:
    """Of COCO's {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}."""
    rows: dict[str, tuple[str, dict[str, Any]]] = {}
    for number, image in enumerate(images, 1):
        where = f"{path} image {number}"
        image = _as_object(image, where, json.dumps(image))
        name = next((image[k] for k in ("file_name", "filename", "path") if k in image), None)
        if "id" not in image or not isinstance(name, str):
            raise CaptionsError(f'{where} has no "id" and "file_name"')
        if str(image["id"]) in rows:
            raise CaptionsError(f"{where} has the id {image['id']!r} of an earlier one")
        row: dict[str, Any] = {"image": name, "texts": [], "split": image.get("split")}
        rows[str(image["id"])] = (where, row)
    for number, annotation in enumerate(annotations, 1):
        where = f"{path} annotation {number}"
        annotation = _as_object(annotation, where, json.dumps(annotation))
        image_id, text = str(annotation.get("image_id")), annotation.get("caption")
        if image_id not in rows or not isinstance(text, str):
            raise CaptionsError(
                f'{where} has no "caption", or an "image_id" that no image has'
                f" ({annotation.get('image_id')!r})"
            )
        rows[image_id][1]["texts"].append(text)
    yield from rows.values()


def _karpathy_rows(images: list, path: pathlib.Path) -> Iterator[Row]:
    """Of Karpathy's {"images": [{"filename", "sentences": [{"raw"}], "split"}]}."""
    for number, image in enumerate(images, 1):
        where = f"{path} image {number}"
        row = dict(_as_object(image, where, json.dumps(image)))
        sentences = row.get("sentences")
        if isinstance(sentences, list):
            row["sentences"] = [s.get("raw", s) if isinstance(s, dict) else s for s in sentences]
        folder, name = row.get("filepath"), row.get("filename")
        if isinstance(folder, str) and isinstance(name, str) and not folder.endswith(name):
            row["file_name"] = f"{folder}/{name}"
        yield where, row


def _table_rows(
    lines: Sequence[str],
    path: pathlib.Path,
    suffix: str,
    is_image: Callable[[str], bool],
    reading: Reading,
) -> Iterator[Row]:
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return
    declared = re.fullmatch(r"sep=(.)\s*", lines[first].strip("\r\n"))
    if declared:  # as spreadsheets write it
        lines, offset = lines[first + 1 :], first + 1
    else:
        lines, offset = lines[first:], first
    if not lines:
        return
    default = "\t" if suffix == ".tsv" else ","
    separator, header = _shape(lines, path, declared[1] if declared else default, suffix, is_image)
    body = lines if header is None else lines[1:]
    start = offset + (1 if header is None else 2)
    header = header or ["image", "text"]
    keys = [normalize_key(name) for name in header]
    image = find_key(keys, "image")
    if image is None or not (find_key(keys, "text") or numbered_keys(keys, "text")):
        kind = "image" if image is None else "text"
        refuse_keys(f"{path} line {start}", [name.strip().lower() for name in header], kind)
    text_keys = [find_key(keys, "text"), *numbered_keys(keys, "text")]
    first_text = min(keys.index(key) for key in text_keys if key is not None)
    place = keys.index(image or "")

    def is_row(fields: list[str]) -> bool:
        complete = max(first_text, place) < len(fields) <= len(keys)
        return complete and is_image(fields[place].strip())

    for row in tables.table_rows(body, separator, is_row, start):
        where = f"{path} line {row.last_line}"
        if len(row.fields) > len(keys):
            raise CaptionsError(
                f"{where} has more fields than the header ({', '.join(header)}); put quotes around"
                " captions that hold the separator"
            )
        if row.last_line > row.line:
            reading.joined.append(f"{path} line {row.line}")
        if row.bare_quotes:
            reading.bare_quotes.append(where)
        if len(row.fields) <= first_text:
            reading.short.append(where)
        yield where, dict(zip(header, [*row.fields, *[None] * len(header)], strict=False))


def _shape(
    lines: Sequence[str],
    path: pathlib.Path,
    default: str,
    suffix: str,
    is_image: Callable[[str], bool],
) -> tuple[str, list[str] | None]:
    """The separator of a table and its header, None where there is none."""
    line = lines[0].rstrip("\r\n")
    separators = dict.fromkeys((default, *tables.SEPARATORS))
    for separator in separators:
        header = tables.split_line(line, separator)[0]
        keys = [normalize_key(name) for name in header]
        texts = find_key(keys, "text") or numbered_keys(keys, "text")
        if find_key(keys, "image") and texts and not any(map(has_image_suffix, header)):
            used = [key for key in keys if find_key([key], "image") or find_key([key], "text")]
            twice = next((key for key in used if used.count(key) > 1), None)
            if twice is not None:
                raise CaptionsError(
                    f"{path} line 1 has two columns called {twice!r}; number them, as in"
                    f" {twice}_1, {twice}_2"
                )
            return separator, header
    for separator in (*separators, *([""] if suffix == ".txt" else [])):
        fields = tables.split_line(line, separator)[0]
        if len(fields) == 2 and is_image(re.sub(r"#\d+$", "", fields[0].strip())):
            return separator, None
    if any(map(has_image_suffix, tables.split_line(line, default)[0])) or suffix == ".txt":
        raise CaptionsError(
            f"{path} line 1 is no header that says which column is the image and which the caption;"
            f" put one above it, such as image{default}text"
        )
    return default, tables.split_line(line, default)[0]
