"""JSON that people and downloads write, a document or an object a line."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from vlmo_jax.datasets.errors import CaptionsError, DataError
from vlmo_jax.datasets.readers.plain_text import read_lines


def parse_json(text: str, where: str) -> Any:
    """Parses JSON; a key that stands twice in one object is an error.

    Args:
        text: the document.
        where: it stands, for messages.

    Raises:
        CaptionsError: it is no JSON.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise CaptionsError(f"{where} has the key {twice!r} twice; give it one list of values")
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise CaptionsError(f"{where} is no JSON: {error}") from error
    except (RecursionError, ValueError) as error:  # a number of thousands of digits
        if isinstance(error, CaptionsError):
            raise
        why = "is nested too deeply" if isinstance(error, RecursionError) else "cannot be read"
        raise CaptionsError(f"{where} {why}: {error}") from error


def read_objects(path: pathlib.Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (where it stands, the object) for each line of a file that is not blank.

    Args:
        path: of the file, UTF-8.

    Raises:
        DataError: a line is no JSON, or no object.
    """
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        row = parse_json(line, where)
        if not isinstance(row, dict):
            raise DataError(f"{where} must be an object in JSON, not {line.strip()[:60]}")
        yield where, row
