"""What is scored without a look at any image and without a model: the answer that is most frequent
in the training data, of all and of those to the same words.
"""

import collections
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from vlmo_jax.datasets.examples import TextsOnly
from vlmo_jax.datasets.records import QuestionsRecord, StatementRecord
from vlmo_jax.evals.consistency import share_of_right_groups
from vlmo_jax.evals.vqa_accuracy import Answered, vqa_accuracy
from vlmo_jax.input.answers import question_answers

MAJORITY, LOOKUP = "most frequent answer", "most frequent answer to the same words"


class Asked(NamedTuple):
    """What a record asks once.

    Attributes:
        text: the question or statement.
        answer: the right one.
    """

    text: str
    answer: Hashable


def guess_questions(train: Sequence, split: Sequence) -> dict[str, dict[str, float]]:
    """Scores guesses at the answers to questions.

    Args:
        train: records of `records.QUESTIONS` that are learned from.
        split: those that are scored, with the answers of people.

    Returns:
        MAJORITY and LOOKUP -> {"accuracy": the official one, "accuracy_yes_no": ..., as of the
        evaluation}, from 0 to 1.
    """
    known = [asked for record in TextsOnly(train) for asked in _questions(record)]
    records = list(TextsOnly(split))

    def score(guesses: Sequence[str]) -> dict[str, float]:
        given = iter(guesses)
        answered = [
            Answered(question_type, answer_type, answers, next(given))
            for record in records
            for question_type, answer_type, answers in zip(
                record.question_types, record.answer_types, question_answers(record), strict=True
            )
        ]
        percent = vqa_accuracy(answered)
        by_type = {
            f"accuracy_{name.removeprefix('answer_type/').replace('/', '_')}": value / 100
            for name, value in percent.items()
            if name.startswith("answer_type/")
        }
        return {"accuracy": percent["overall"] / 100, **by_type}

    texts = [asked.text for record in records for asked in _questions(record)]
    return _scores(known, texts, score)


def guess_statements(train: Sequence, split: Sequence) -> dict[str, dict[str, float]]:
    """Scores guesses at the truth of statements.

    Args:
        train: records of `records.STATEMENTS` that are learned from.
        split: those that are scored, with labels.

    Returns:
        MAJORITY and LOOKUP -> {"accuracy", "consistency"}, from 0 to 1.
    """
    known = [_statement(record) for record in TextsOnly(train)]
    records: list[StatementRecord] = list(TextsOnly(split))

    def score(guesses: Sequence[int]) -> dict[str, float]:
        right = [guess == int(r.label) for guess, r in zip(guesses, records, strict=True)]
        groups = (record.group_id for record in records)
        consistency = share_of_right_groups(right, groups)
        return {"accuracy": sum(right) / len(right), "consistency": consistency}

    return _scores(known, [record.statement for record in records], score)


def _scores(
    known: Iterable[Asked], texts: Sequence[str], score: Callable[[Sequence[Any]], dict[str, float]]
) -> dict[str, dict[str, float]]:
    whole: collections.Counter = collections.Counter()
    by_text: Mapping[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for asked in known:
        whole[asked.answer] += 1
        by_text[asked.text][asked.answer] += 1
    majority = whole.most_common(1)[0][0]
    found = [by_text[t].most_common(1)[0][0] if t in by_text else majority for t in texts]
    return {MAJORITY: score([majority] * len(texts)), LOOKUP: score(found)}


def _questions(record: QuestionsRecord) -> list[Asked]:
    return list(map(Asked, record.questions, record.main_answers))


def _statement(record: StatementRecord) -> Asked:
    return Asked(record.statement, int(record.label))
