"""What a data set is, whatever its folder is called: by this a run knows its data again."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlmo_jax.datasets.record_sources import BrokenRecordError

SAMPLE = 1024  # records that are read


def identify(source: Sequence) -> dict[str, Any]:
    """Tells records apart from others: by their number, their bytes on disk, and the contents of
    evenly spread ones, which are all of them up to SAMPLE.

    Args:
        source: records in their order, such as a `RecordSource`.

    Returns:
        {"records": number, "bytes": of all records of the splits that they are from, 0 where that
        is not known, "sha256": of the contents and their order}: plain JSON values.
    """
    digest = hashlib.sha256()
    for index in np.linspace(0, len(source) - 1, min(SAMPLE, len(source))).astype(int).tolist():
        try:
            record = source[index]
        except BrokenRecordError:
            record = "broken"
        digest.update(f"{index}:".encode())
        _add(digest, record)
    size = getattr(source, "num_bytes", 0)
    return {"records": len(source), "bytes": size, "sha256": digest.hexdigest()}


def _add(digest: Any, value: Any) -> None:
    """Adds a value with its kind and its length, so that no two values add the same bytes."""
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, list | tuple):
        digest.update(f"[{len(value)}".encode())
        for part in value:
            _add(digest, part)
        return
    if isinstance(value, np.ndarray | np.generic):
        digest.update(f"{value.dtype}{value.shape}".encode())
        value = value.tobytes()
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    digest.update(f"{type(value).__name__}{len(data)}:".encode())
    digest.update(data)
