"""The classes that a model chooses from, by id, as a file: by default `classes.txt` beside the
shards.
"""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.plain_text import read_lines

CLASSES = "classes.txt"


def classes_text(classes: Sequence[str]) -> str:
    """The contents of such a file: a class a line, in the order of their ids."""
    return "".join(f"{name}\n" for name in classes)


def classes_facts(classes: Sequence[str]) -> dict[str, Any]:
    """By what a list of classes is known again: plain JSON values."""
    digest = hashlib.sha256(classes_text(classes).encode()).hexdigest()
    return {"number": len(classes), "sha256": digest}


def read_classes(path: pathlib.Path) -> list[str]:
    """Reads a list of classes by id.

    Args:
        path: a class a line, as its folder is called.

    Raises:
        MissingDataError: there is no such file.
        DataError: it lists nothing, a class twice, or has a blank line.
    """
    if not path.is_file():
        raise MissingDataError(
            f"{path}: there is no such file, which lists the classes; write a class a line, as its"
            " folder is called"
        )
    classes: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), 1):
        name = line.strip()
        if not name or name in seen:
            why = f"lists {name!r} again, after line {seen[name]}" if name else "is blank"
            raise DataError(f"{path} line {number} {why}; write each class once, one a line")
        seen[name] = number
        classes.append(name)
    if not classes:
        raise DataError(f"{path} is empty; list a class a line")
    return classes
