"""Reads documents from text files, and cuts long ones into passages."""

import gzip
import math
import pathlib
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.json_lines import parse_json
from vlmo_jax.datasets.readers.plain_text import whole

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz")
UNITS = ("lines", "paragraphs")
_SENTENCE_END = re.compile(r"[.!?][\"')\]”’]* ")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def find_text_files(paths: Sequence[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Finds the text files that some paths name, folders searched with their subfolders.

    Args:
        paths: files that end in one of `SUFFIXES`, and folders that hold some.

    Returns:
        {name: file}, in the order of the paths and sorted in each folder. A name is that of the
        file, with the path below the folder that was given.

    Raises:
        FileNotFoundError: a path is not there, or a folder holds no such file.
        ValueError: a file has another suffix, or two files have one name.
    """
    files: dict[str, pathlib.Path] = {}
    for path in paths:
        if path.is_dir():
            found = {
                file.relative_to(path).as_posix(): file
                for file in sorted(path.rglob("*"))
                if file.name.endswith(SUFFIXES)
            }
            if not found:
                raise MissingDataError(
                    f"{path} holds no text file ({', '.join('*' + suffix for suffix in SUFFIXES)})"
                )
        elif not path.is_file():
            raise MissingDataError(f"{path}: there is no such file or folder")
        elif not path.name.endswith(SUFFIXES):
            raise DataError(f"{path} must end in {', '.join(SUFFIXES)}")
        else:
            found = {path.name: path}
        for name, file in found.items():
            if name in files:
                raise DataError(
                    f"{files[name]} and {file} are both called {name}; give the folder above them"
                    " instead"
                )
            files[name] = file
    return files


def read_documents(path: pathlib.Path, file: BinaryIO, unit: str) -> Iterator[tuple[int, str]]:
    """Yields the documents of a text file, white space in them as single blanks, blank ones too.

    Args:
        path: the file; of `.jsonl` each line is an object with the document in "text", whatever
            `unit` is.
        file: the same, opened for reading bytes.
        unit: "lines": each line is a document; "paragraphs": documents have one or more empty lines
            between them.

    Yields:
        (number of the line on which the document begins, the document).

    Raises:
        ValueError: the file is not UTF-8, its gzip is damaged, or a line of `.jsonl` is no such
            object.
    """
    lines = _lines(path, gzip.GzipFile(fileobj=file) if path.name.endswith(".gz") else file)
    if path.name.removesuffix(".gz").endswith(".jsonl"):
        yield from (
            (number, _collapse(_json_text(f"{path} line {number}", line)))
            for number, line in lines
            if line.strip()
        )
    elif unit == "lines":
        yield from ((number, _collapse(line)) for number, line in lines)
    else:
        yield from _paragraphs(lines)


def _lines(path: pathlib.Path, file: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            yield number, line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} line {number} is not UTF-8: byte {error.start + 1} of the line is"
            f" {error.object[error.start]:#04x}; convert the file first, for example with: iconv -f"
            " ISO-8859-1 -t UTF-8 OLD > NEW"
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path} is no whole gzip file, it can be read to line {number}: {error}"
        ) from error


def _paragraphs(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    first = 0
    parts: list[str] = []
    for number, line in lines:
        if line.strip():
            first = first if parts else number
            parts.append(line)
        elif parts:
            yield first, _collapse(" ".join(parts))
            parts = []
    if parts:
        yield first, _collapse(" ".join(parts))


def _json_text(where: str, line: str) -> str:
    row = parse_json(line, where)
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise DataError(
            f'{where} must be an object such as {{"text": "a document"}}, not {line.strip()[:60]}'
        )
    return whole(row["text"], where)


def _collapse(text: str) -> str:
    return " ".join(text.split())


def cut_passages(text: str, length: int) -> list[str]:
    """Cuts a text into passages that together hold all of it.

    Args:
        text: any, white space as single blanks.
        length: the most characters of a passage.

    Returns:
        The passages in order, at least one. Each ends with a sentence if one ends in its second
        half, else with a word, else at `length`.
    """
    passages, start = [], 0
    while len(text) - start > length:
        rest = len(text) - start
        # The last few are made alike, so that none is a left-over of two words.
        limit = min(length, math.ceil(1.2 * rest / math.ceil(rest / length)))
        end = _cut_place(text, start, limit)
        passages.append(text[start:end].rstrip())
        start = end
    return [*passages, text[start:]]


def _cut_place(text: str, start: int, limit: int) -> int:
    # One character more: the blank after the last that fits.
    sentences = [
        match.end() for match in _SENTENCE_END.finditer(text, start + limit // 2, start + limit + 1)
    ]
    if sentences:
        return sentences[-1]
    blank = text.rfind(" ", start + 1, start + limit + 1)
    return blank + 1 if blank >= 0 else start + limit
