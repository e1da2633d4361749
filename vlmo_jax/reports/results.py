"""Results of evaluations, as lines of a file and as tables for people.

Nothing here touches jax.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# What names of shares of 1 end in or hold, which people read in percent.
_SHARES = ("recall", "accuracy", "consistency", "score")


def append_results(path: Path, results: Iterable[Mapping[str, Any]]) -> None:
    """Adds one JSON object a line to the end of a file; what a kill has cut short stays a line of
    its own.

    Args:
        path: the file, made with its folder if missing.
        results: plain JSON values; NaN and infinity become null.

    Raises:
        OSError: the file cannot be written.
    """
    lines = "".join(json.dumps(_finite(result)) + "\n" for result in results).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+", buffering=0) as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            lines = (b"" if file.read(1) == b"\n" else b"\n") + lines
        file.write(lines)  # one write: whole or, after a kill, cut at the end


def results_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Results as text: an evaluation has a table, a split a column of it, a metric a row.

    Args:
        results: as in the file.
    """
    tables = []
    names = dict.fromkeys((result["evaluation"], result["protocol"]) for result in results)
    for name, protocol in names:
        own = [r for r in results if (r["evaluation"], r["protocol"]) == (name, protocol)]
        rows = [["", *(result["split"] for result in own)]]
        for metric in dict.fromkeys(metric for result in own for metric in result["metrics"]):
            values = (result["metrics"].get(metric) for result in own)
            rows.append([metric, *(_shown(metric, value) for value in values)])
        tables.append("\n".join([f"{name}: {protocol}", *_aligned(rows)]))
    return "\n\n".join(tables)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [
        "  ".join(
            [row[0].ljust(first), *(v.rjust(w) for v, w in zip(row[1:], others, strict=True))]
        ).rstrip()
        for row in rows
    ]


def _shown(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    if any(word in metric for word in _SHARES) and 0 <= value <= 1:
        return f"{value:.2%}"
    return f"{value:.6g}"


def _finite(value: Any) -> Any:
    """NaN and infinity are no JSON."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    return value
