"""Records that are spread evenly over a split, as pictures with their words."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from vlmo_jax.datasets import images, record_sources
from vlmo_jax.datasets.records import QuestionsRecord, Record, RecordKind, StatementRecord

_SIDE = 160  # pixels of a drawn picture
_LABELS = {1: "true", 0: "false", -1: "not known"}


def sample_pictures(
    kind: RecordKind, source: Sequence, count: int = 8
) -> list[tuple[list[np.ndarray], str]]:
    """Returns some records of a split: their images, uint8 [S, S, 3] over white, and their words.

    Args:
        kind: of the records.
        source: the split; what of it cannot be read or decoded is passed over.
        count: how many.
    """
    return list(_samples(kind, source, count))


def _samples(
    kind: RecordKind, source: Sequence, count: int
) -> Iterator[tuple[list[np.ndarray], str]]:
    for index in np.linspace(0, len(source) - 1, min(count, len(source))).astype(int).tolist():
        try:
            record = source[index]
            pictures = [_square(getattr(record, name)) for name in kind.image_fields]
        except (record_sources.BrokenRecordError, images.BrokenImageError):
            continue
        yield pictures, _words_of(record)


def _square(data: bytes) -> np.ndarray:
    image = images.decode_image(data, min_pixels=_SIDE**2)
    return np.asarray(ImageOps.pad(image, (_SIDE, _SIDE), Image.Resampling.LANCZOS, color="white"))


def _words_of(record: Any) -> str:
    if isinstance(record, Record):
        return " | ".join(record.texts)
    if isinstance(record, QuestionsRecord):
        answers = [f" {answer}" if answer else "" for answer in record.main_answers]
        return " | ".join(q + a for q, a in zip(record.questions, answers, strict=False))
    if isinstance(record, StatementRecord):
        return f"{_LABELS.get(int(record.label), '')}: {record.statement}"
    return ""
