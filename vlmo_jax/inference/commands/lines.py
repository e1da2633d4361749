"""JSON lines in and out."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.paths import user_path

STDIN = "-"


class BrokenLineError(UserError, ValueError):
    """A line that is no JSON object, or lacks a field."""


def read_objects(path: str, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the number, from 1, and the object of each line that is not blank.

    Args:
        path: of the file, "-" for standard input.
        needed: fields that each object must have, all of them texts.

    Raises:
        FileNotFoundError: there is no such file.
        BrokenLineError: a line is something else; it names file and line.
    """
    with _opened(path) as file:
        for number, line in enumerate(_lines(path, file), 1):
            if not line.strip():
                continue
            where = f"{'standard input' if path == STDIN else path} line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BrokenLineError(
                    f"{where} is no JSON: {error}; write an object a line"
                ) from error
            for field in needed:
                if not isinstance(row, dict) or not isinstance(row.get(field), str):
                    wanted = ", ".join(f'"{name}": "..."' for name in needed)
                    raise BrokenLineError(
                        f"{where} has no text {field!r}; write {{{wanted}}} a line"
                    )
            yield number, row


def _opened(path: str) -> contextlib.AbstractContextManager[IO[str]]:
    if path == STDIN:
        return contextlib.nullcontext(sys.stdin)
    return user_path(path).open(encoding="utf-8-sig")


def _lines(path: str, file: IO[str]) -> Iterator[str]:
    try:
        yield from file
    except UnicodeDecodeError as error:
        raise BrokenLineError(f"{path} is not UTF-8: {error}; save it so") from error
