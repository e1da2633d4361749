"""Small JSON files that readers put beside the records."""

import json
from pathlib import Path
from typing import Any

from vlmo_jax.datasets.errors import DataError


def read_beside(folder: Path, name: str) -> dict[str, Any] | None:
    """Reads the JSON object in a file of a data set, None where there is no such file.

    Raises:
        DataError: the file holds something else.
    """
    path = folder / name
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is cut or damaged: {error}; build the data set again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} must hold a JSON object; build the data set again")
    return found
