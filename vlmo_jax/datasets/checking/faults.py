"""What is wrong with a record beside its images."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vlmo_jax.datasets.records import (
    BARE_IMAGES,
    QuestionsRecord,
    Record,
    RecordKind,
    RegionsRecord,
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


def _of_captions(record: Record | RegionsRecord) -> str:
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


def _of_regions(record: RegionsRecord) -> str:
    return fault_of_regions(record) or _of_captions(record)


def fault_of_regions(record: RegionsRecord) -> str:
    """Returns what is wrong with the arrays of a record of regions, "" if nothing."""
    count = len(record.features)
    if not count:
        return "it has no region"
    for name in ("boxes", "classes"):
        if len(getattr(record, name)) not in (0, count):
            return f"it has {count} regions and {len(getattr(record, name))} {name}"
    for name in ("features", "boxes", "classes"):
        if not np.isfinite(getattr(record, name)).all():
            return f"its {name} hold NaN or infinity"
    return _of_boxes(record) if len(record.boxes) else ""


def _of_boxes(record: RegionsRecord) -> str:
    width, height = int(record.width), int(record.height)
    if width < 1 or height < 1:
        return f"it has boxes, and its image is {width} x {height} pixels"
    (left, top, right, bottom), slack = record.boxes.T, 1.0  # detectors count pixels from 0 or 1
    inside = (left >= -slack) & (top >= -slack) & (right <= width + slack)
    inside &= (bottom <= height + slack) & (left <= right) & (top <= bottom)
    if inside.all():
        return ""
    row = int(np.argmin(inside))
    return (
        f"its box {row}, {' '.join(f'{x:g}' for x in record.boxes[row])}, is none of x1 y1 x2 y2"
        f" within {width} x {height} pixels"
    )


_FAULTS: dict[type, Callable[[Any], str]] = {
    Record: _of_captions,
    TextRecord: _of_text,
    QuestionsRecord: _of_questions,
    StatementRecord: _of_statement,
    RegionsRecord: _of_regions,
}
