"""What a model says of each example of a split, as a file of JSON lines."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from vlmo_jax.commands.folders import naming_folder


def predictions_path(folder: Path, evaluation: str, split: str) -> Path:
    """The file of a split: <folder>/<evaluation>_<split>.jsonl."""
    return folder / f"{evaluation}_{split}.jsonl"


def write_predictions(
    folder: Path | None, evaluation: str, split: str, examples: Iterable[Mapping[str, Any]]
) -> None:
    """Writes one JSON object an example, in the order of the split; the file is there whole or not
    at all. Only process 0 writes, the others do not even look at the examples.

    Args:
        folder: made if missing; None: nothing is written.
        evaluation: name of the evaluation.
        split: name of the split.
        examples: their fields: plain values, numpy ones included. What is not finite is refused.

    Raises:
        ValueError: a number is not finite.
        OSError: the file cannot be written.
    """
    if folder is None or jax.process_index() != 0:
        return
    lines = (
        json.dumps(example, ensure_ascii=False, allow_nan=False, default=_to_plain)
        for example in examples
    )
    write_lines(predictions_path(folder, evaluation, split), lines)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes a text file that is there whole or not at all.

    Args:
        path: the file; its folder is made if missing.
        lines: without their ends.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    with naming_folder(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _to_plain(value: Any) -> Any:
    """A number or an array of numpy."""
    return value.tolist()
