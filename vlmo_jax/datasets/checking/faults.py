"""What is wrong with a record beside its images."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vlmo_jax.datasets.records import (
    BARE_IMAGES,
    QuestionsRecord,
    Record,
    RecordKind,
    StatementRecord,
    TextRecord,
)

_OF_QUESTIONS = ("question_ids", "num_answers", "main_answers", "answer_types", "question_types")
_LABELS = (-1, 0, 1)


def fault_of(kind: RecordKind, record: Any) -> str:
    """Returns what is wrong with a record's texts and numbers, "" if nothing or if there is no rule
    for its kind.
    """
    find = None if kind is BARE_IMAGES else _FAULTS.get(type(record))
    return find(record) if find else ""


def inner_ids(record: Any) -> tuple[str, ...]:
    """Returns the ids within a record that must be unique in a split."""
    return record.question_ids if isinstance(record, QuestionsRecord) else ()


def _of_captions(record: Record) -> str:
    if not record.texts:
        return "it has no caption"
    return "" if all(map(str.strip, record.texts)) else "it has a blank caption"


def _of_text(record: TextRecord) -> str:
    return "" if record.text.strip() else "it is blank"


def _of_questions(record: QuestionsRecord) -> str:
    count = len(record.questions)
    if not count:
        return "it has no question"
    for name in _OF_QUESTIONS:
        if len(getattr(record, name)) != count:
            return f"it has {count} questions and {len(getattr(record, name))} {name}"
    if not all(map(str.strip, record.questions)):
        return "it has a blank question"
    if np.any(record.num_answers < 0) or int(record.num_answers.sum()) != len(record.answers):
        return (
            f"it has {len(record.answers)} answers, num_answers says"
            f" {' + '.join(map(str, record.num_answers.tolist()))}"
        )
    return ""


def _of_statement(record: StatementRecord) -> str:
    if not record.statement.strip():
        return "its statement is blank"
    if int(record.label) not in _LABELS:
        return f"its label is {int(record.label)}, not 1 (true), 0 (false) or -1 (not known)"
    return ""


_FAULTS: dict[type, Callable[[Any], str]] = {
    Record: _of_captions,
    TextRecord: _of_text,
    QuestionsRecord: _of_questions,
    StatementRecord: _of_statement,
}
