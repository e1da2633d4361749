"""Measures of statements about two images."""

import collections
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from vlmo_jax.datasets import records, tables
from vlmo_jax.datasets.measures.common import CountTokens, TextMeasures, read_header, spread

_LABELS = {1: "true", 0: "false", -1: "not known"}


class StatementStats(NamedTuple):
    """Measures of a split of statements; records that cannot be read are left out.

    Attributes:
        formats: {image format, "unreadable" for broken headers: number of images}.
        texts: of the statements.
        labels: {1, 0 or -1: number of statements}.
        groups: int64 [groups], number of statements that are consistent together.
        broken: number of records that cannot be read.
        examples: the first records.
    """

    formats: collections.Counter[str]
    texts: TextMeasures
    labels: collections.Counter[int]
    groups: np.ndarray
    broken: int
    examples: list[records.StatementRecord]


def measure_statements(
    read: Iterable[records.StatementRecord | None],
    count_tokens: CountTokens | None = None,
    num_examples: int = 3,
) -> StatementStats:
    """Measures a split; arguments as of `questions.measure_questions`."""
    formats: collections.Counter[str] = collections.Counter()
    labels: collections.Counter[int] = collections.Counter()
    groups: collections.Counter[str] = collections.Counter()
    texts: list[str] = []
    examples: list[records.StatementRecord] = []
    broken = 0
    for record in read:
        if record is None:
            broken += 1
            continue
        if len(examples) < num_examples:
            examples.append(record)
        formats.update(read_header(data)[0] for data in (record.image_0, record.image_1))
        labels[int(record.label)] += 1
        groups.update([record.group_id] if record.group_id else [])
        texts.append(record.statement)
    return StatementStats(
        formats,
        TextMeasures.of(texts, count_tokens),
        labels,
        np.array(list(groups.values()), np.int64),
        broken,
        examples,
    )


def format_statement_stats(stats: Mapping[str, StatementStats], text_length: int) -> str:
    """Returns the measures as text; arguments as of `questions.format_question_stats`."""
    first = next(iter(stats.values()))
    header = ["split", "statements", "unreadable", *_LABELS.values(), "groups"]
    header += ["statements a group", *first.texts.header("statement", text_length)]
    rows = []
    for split, s in stats.items():
        count = len(s.texts.words)
        shares = [f"{s.labels[label] / count:.2%}" if count else "-" for label in _LABELS]
        rows.append(
            [split, count, s.broken, *shares, len(s.groups), spread(s.groups)]
            + s.texts.cells(text_length)
        )
    return "\n".join(
        [
            "Spreads read: smallest / median / 95 % / largest.",
            "",
            tables.format_table(header, rows),
            "",
            *(line for split, s in stats.items() for line in s.texts.warnings(split)),
            *(
                f"{split}: {record.statement_id}: {record.statement[:100]} |"
                f" {_LABELS.get(int(record.label), record.label)}"
                for split, s in stats.items()
                for record in s.examples
            ),
        ]
    )
