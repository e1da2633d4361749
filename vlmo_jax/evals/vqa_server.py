"""Answers to VQAv2 as its evaluation server takes them, and scores as its evaluation code writes
them.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.folders import naming_folder
from vlmo_jax.datasets.beside import read_beside

QUESTIONS = "questions.json"  # beside the shards: {split: how many questions the server wants}


class PartialAnswersError(UserError, ValueError):
    """Answers to some of the questions that the server asks: it would score the rest as wrong."""


def whole_split(folder: Path, split: str, size: int) -> int | None:
    """How many questions the server asks of a split.

    Args:
        folder: of the data set.
        split: as it is opened; a part of one, such as "test2015[:10]", is none that is asked for.
        size: its questions here, which stand for all where the data set does not say.

    Returns:
        The number; None where the server takes no such file.
    """
    if not split.isidentifier():
        return None
    counts = read_beside(folder, QUESTIONS)
    return size if counts is None else counts.get(split)


def write_server_files(
    stem: Path,
    predictions: Mapping[str, str],
    *,
    num_rows: int,
    whole: int | None,
    accuracies: Mapping[str, float],
) -> Path:
    """Writes `<stem>_results.json`, [{"question_id": 1, "answer": "yes"}, ...], and, where there
    are some, `<stem>_accuracy.json` with the official accuracies.

    Args:
        stem: of the files.
        predictions: question id -> answer. An id that is a number is written as one.
        num_rows: questions that were answered; more than `predictions` where ids come twice.
        whole: how many questions the server asks.
        accuracies: of `vqa_accuracy`, percentages; {}: none.

    Returns:
        The file for the server.

    Raises:
        PartialAnswersError: some questions are missing, or answered twice.
        OSError: a file cannot be written.
    """
    if whole is None:
        raise PartialAnswersError(
            "this is a part of what it scores, and it would take all other questions for wrong;"
            " evaluate the whole split (of VQAv2 test2015, from which test-dev is scored, too)"
        )
    if num_rows != len(predictions):
        raise PartialAnswersError(f"{num_rows - len(predictions):,} question ids come twice")
    if num_rows != whole:
        raise PartialAnswersError(
            f"{num_rows:,} questions are answered and it asks {whole:,}; build the data set again"
            " with all images"
        )
    rows = [
        {"question_id": int(name) if _is_number(name) else name, "answer": answer}
        for name, answer in predictions.items()
    ]
    results = stem.with_name(f"{stem.name}_results.json")
    _write(results, rows)
    if accuracies:
        _write(stem.with_name(f"{stem.name}_accuracy.json"), _official_form(accuracies))
    return results


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and str(int(name)) == name


def _official_form(accuracies: Mapping[str, float]) -> dict:
    by_type = {
        kind: {
            name.partition("/")[2]: value
            for name, value in accuracies.items()
            if name.startswith(f"{kind}/")
        }
        for kind in ("question_type", "answer_type")
    }
    return {
        "overall": accuracies["overall"],
        "perQuestionType": by_type["question_type"],
        "perAnswerType": by_type["answer_type"],
    }


def _write(path: Path, content: object) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with naming_folder(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
