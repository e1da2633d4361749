"""What the most frequent answers score, by hand and on the embedded data."""

import numpy as np
import pytest

from vlmo_jax.datasets.records import QuestionsRecord, StatementRecord
from vlmo_jax.datasets.sources import open_records
from vlmo_jax.evals.guesses import LOOKUP, MAJORITY, guess_questions, guess_statements


def questions(*rows):
    """A record of questions, each with ten people's answers."""
    texts, answers = zip(*rows, strict=True)
    return QuestionsRecord(
        image=b"",
        image_id="1",
        questions=texts,
        question_ids=tuple(map(str, range(len(texts)))),
        answers=tuple(answer for given in answers for answer in given),
        num_answers=np.array([len(given) for given in answers], np.int32),
        main_answers=tuple(given[0] for given in answers),
        answer_types=tuple("yes/no" if given[0] in ("yes", "no") else "other" for given in answers),
        question_types=tuple("" for _ in texts),
    )


def statement(text, label, group):
    return StatementRecord(b"", b"", text, np.asarray(label, np.int32), f"{text}{group}", group)


def test_guesses_at_questions():
    train = [
        questions(("is it?", ["yes"] * 10), ("what?", ["dog"] * 10)),
        questions(("is it?", ["yes"] * 10), ("what?", ["dog"] * 10), ("who?", ["yes"] * 10)),
    ]
    split = [
        questions(("is it?", ["no"] * 10), ("what?", ["cat"] * 7 + ["dog"] * 3)),
        questions(("is it?", ["yes"] * 10), ("never asked", ["yes"] * 10)),
    ]
    scores = guess_questions(train, split)
    assert scores[MAJORITY]["accuracy"] == 0.5 and scores[MAJORITY]["accuracy_other"] == 0
    # "dog" agrees with three of ten: 0.9.
    assert scores[LOOKUP]["accuracy"] == pytest.approx((0 + 0.9 + 1 + 1) / 4)
    assert scores[LOOKUP]["accuracy_yes_no"] == pytest.approx(2 / 3, abs=1e-4)


def test_guesses_at_statements():
    train = [statement("a", 1, "1"), statement("a", 1, "2"), statement("b", 0, "3")]
    split = [statement("a", 1, "1"), statement("a", 0, "1"), statement("b", 0, "2")]
    scores = guess_statements(train, split)
    assert scores[MAJORITY] == {"accuracy": pytest.approx(1 / 3), "consistency": 0.0}
    assert scores[LOOKUP] == {"accuracy": pytest.approx(2 / 3), "consistency": 0.5}


def test_guesses_at_the_embedded_data_are_at_chance():
    train = open_records("emoji_statements", "train[:16000]")
    split = open_records("emoji_statements", "validation")
    for scores in guess_statements(train, split).values():
        assert scores["accuracy"] == pytest.approx(0.5, abs=0.01) and scores["consistency"] == 0
    train = open_records("emoji_questions", "train[:36000]")
    scores = guess_questions(train, open_records("emoji_questions", "validation"))
    assert scores[MAJORITY]["accuracy"] < scores[LOOKUP]["accuracy"] < 0.29
    assert scores[LOOKUP]["accuracy_yes_no"] == pytest.approx(0.5, abs=0.02)
