"""Broken records give way to others: the part of writing an example that all kinds of examples
share.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vlmo_jax.datasets import BrokenRecordError
from vlmo_jax.input import sampling

# So many records in a row are broken only where nearly all are.
_MAX_ATTEMPTS = 64


class BrokenDataError(RuntimeError):
    """Too many records cannot be used, or one that an evaluation needs."""


class UnusableRecordError(Exception):
    """A record that is skipped: its id and why."""

    def __init__(self, record_id: str, reason: object):
        super().__init__(record_id, str(reason))


@dataclasses.dataclass(frozen=True)
class Report:
    """What happened to the records of one row, or of several.

    Attributes:
        seen: records tried.
        broken: (record id, reason) of those that could not be used.
        truncated: texts cut at the text length.
    """

    seen: int = 0
    broken: tuple[tuple[str, str], ...] = ()
    truncated: int = 0

    def __add__(self, other: "Report") -> "Report":
        return Report(
            self.seen + other.seen, self.broken + other.broken, self.truncated + other.truncated
        )


def read_record(source: Sequence, index: int) -> Any:
    """Reads one record.

    Raises:
        UnusableRecordError: it is damaged.
    """
    try:
        return source[index]
    except (BrokenRecordError, OSError) as error:
        raise UnusableRecordError(f"record {index}", error) from error


def write_or_replace(
    write: Callable[[Any, np.random.Generator], int | None],
    source: Sequence,
    *,
    seed: int,
    position: int,
    index: int,
) -> Report:
    """Writes one example; broken records give way to others, drawn from (seed, position, attempt).

    Args:
        write: function of a record and the source of all randomness of the example; says whether a
            text had to be cut.
        source: the records.
        seed: of the run.
        position: of the example in the training stream.
        index: of the record that belongs there.

    Returns:
        What was tried.

    Raises:
        BrokenDataError: dozens of records in a row are broken.
    """
    broken = []
    for attempt in range(_MAX_ATTEMPTS):
        rng = sampling.example_rng(seed, position, attempt)
        if attempt:
            index = int(rng.integers(len(source)))
        try:
            truncated = write(read_record(source, index), rng)
        except UnusableRecordError as error:
            broken.append(error.args)
        else:
            return Report(attempt + 1, tuple(broken), truncated or 0)
    raise BrokenDataError(
        f"{_MAX_ATTEMPTS} records drawn for one example were all broken: {name_broken(broken)}. "
        "Look through the data with: python -m vlmo_jax.datasets.check DIR"
    )


def name_broken(broken: Sequence[tuple[str, str]], limit: int = 5) -> str:
    """Returns the first few broken records in words, each once.

    Args:
        broken: (record id, reason) pairs.
        limit: how many to name.
    """
    reasons = dict(broken)
    named = ", ".join(
        f"{record_id!r} ({reason})" for record_id, reason in list(reasons.items())[:limit]
    )
    return named + (f" and {len(reasons) - limit} more" if len(reasons) > limit else "")
