"""Measures of questions about images."""

import collections
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from vlmo_jax.datasets import records, tables
from vlmo_jax.datasets.measures.common import CountTokens, TextMeasures, read_header, spread
from vlmo_jax.datasets.vqa_answers import vocabulary_form

_MOST = 10  # answers that are listed
VOCABULARY_COUNT = 9  # how often an answer must be the most frequent one, officially


class QuestionStats(NamedTuple):
    """Measures of a split of questions; records that cannot be read are left out.

    Attributes:
        formats: {image format, "unreadable" for broken headers: number of images}.
        questions: int64 [images], number of questions.
        texts: of the questions.
        answers: int64 [questions], number of answers.
        types: {answer type: number of questions}.
        main_answers: {most frequent answer of a question, in the form of the vocabulary: number of
            questions}.
        broken: number of records that cannot be read.
        examples: the first records.
    """

    formats: collections.Counter[str]
    questions: np.ndarray
    texts: TextMeasures
    answers: np.ndarray
    types: collections.Counter[str]
    main_answers: collections.Counter[str]
    broken: int
    examples: list[records.QuestionsRecord]


def measure_questions(
    read: Iterable[records.QuestionsRecord | None],
    count_tokens: CountTokens | None = None,
    num_examples: int = 3,
) -> QuestionStats:
    """Measures a split.

    Args:
        read: its records, None for one that cannot be read.
        count_tokens: of a tokenizer, or None.
        num_examples: number of records to keep as examples.

    Returns:
        The measures.
    """
    formats: collections.Counter[str] = collections.Counter()
    types: collections.Counter[str] = collections.Counter()
    main_answers: collections.Counter[str] = collections.Counter()
    questions: list[int] = []
    texts: list[str] = []
    answers: list[int] = []
    examples: list[records.QuestionsRecord] = []
    broken = 0
    for record in read:
        if record is None:
            broken += 1
            continue
        if len(examples) < num_examples:
            examples.append(record)
        formats[read_header(record.image)[0]] += 1
        types.update(record.answer_types)
        main_answers.update(vocabulary_form(answer) for answer in record.main_answers if answer)
        questions.append(len(record.questions))
        texts += record.questions
        answers += record.num_answers.tolist()
    return QuestionStats(
        formats,
        np.array(questions, np.int64),
        TextMeasures.of(texts, count_tokens),
        np.array(answers, np.int64),
        types,
        main_answers,
        broken,
        examples,
    )


def format_question_stats(stats: Mapping[str, QuestionStats], text_length: int) -> str:
    """Returns the measures as text.

    Args:
        stats: {split: its measures}.
        text_length: number of tokens at which questions are cut.
    """
    first = next(iter(stats.values()))
    header = ["split", "images", "unreadable", "questions", "questions an image"]
    header += ["answers a question", *first.texts.header("question", text_length)]
    rows = [
        [split, len(s.questions), s.broken, int(s.questions.sum()), spread(s.questions)]
        + [spread(s.answers), *s.texts.cells(text_length)]
        for split, s in stats.items()
    ]
    return "\n".join(
        [
            "Spreads read: smallest / median / 95 % / largest.",
            "",
            tables.format_table(header, rows),
            "",
            *(line for split, s in stats.items() for line in s.texts.warnings(split)),
            *_type_lines(stats),
            *_answer_lines(stats),
            *(
                f"{split}: {record.image_id}: {question} | {answer}"
                for split, s in stats.items()
                for record in s.examples
                for question, answer in zip(
                    record.questions[:1], record.main_answers[:1], strict=True
                )
            ),
        ]
    )


def _type_lines(stats: Mapping[str, QuestionStats]) -> list[str]:
    """A table of the types of answers, if any is known."""
    types = sum((s.types for s in stats.values()), collections.Counter())
    names = [name for name, _ in types.most_common()]
    if names in ([], [""]):
        return []
    rows = [
        [split, *(_share(s.types[name], s.types.total()) for name in names)]
        for split, s in stats.items()
    ]
    header = ["answers of type", *(name or "not known" for name in names)]
    return [tables.format_table(header, rows), ""]


def _answer_lines(stats: Mapping[str, QuestionStats]) -> list[str]:
    """Most frequent answers, what always giving one would score, and the share that the vocabulary
    has.
    """
    totals = sum((s.main_answers for s in stats.values()), collections.Counter())
    if not totals:
        return []
    vocabulary = {answer for answer, count in totals.items() if count >= VOCABULARY_COUNT}
    rows = []
    for split, s in stats.items():
        count = s.main_answers.total()
        known = sum(n for answer, n in s.main_answers.items() if answer in vocabulary)
        most = s.main_answers.most_common(1)
        majority = f"{most[0][0]} ({_share(most[0][1], count)})" if most else "-"
        rows.append([split, len(s.main_answers), majority, _share(known, count)])
    header = ["split", "different answers", "most frequent"]
    header += [f"in the vocabulary of {len(vocabulary):,}"]
    often = ", ".join(f"{answer} ({n:,})" for answer, n in totals.most_common(_MOST))
    return [tables.format_table(header, rows), "", f"Most frequent answers: {often}", ""]


def _share(count: int, total: int) -> str:
    return f"{count / total:.2%}" if total else "-"
