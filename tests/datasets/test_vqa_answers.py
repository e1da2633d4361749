"""Answers of VQA where the official code is easily misread."""

import pytest

from vlmo_jax.datasets.vqa_answers import (
    CONTRACTIONS,
    Annotation,
    answer_score,
    build_vocabulary,
    normal_form,
    soft_targets,
    vocabulary_form,
)


@pytest.mark.parametrize(
    "raw, form",
    [
        ("Yes.", "yes"),
        ("2.5 m.", "2.5 m"),
        (".5", ".5"),  # a stop stays before a digit, whatever stands before it
        ("U.S.A. 4.", "usa 4"),
        ("1,000", "1000"),  # a comma between digits: all marks go
        ("black/white", "black white"),  # a mark between letters becomes a blank
        ("black /white", "black white"),
        ("the   two dogs", "2 dogs"),
        ("dont", "don't"),
        ("somebody'd", "somebodyd"),
        ("Im", "im"),  # only the spelling with a capital is known, and cannot be met
        ("an", ""),
    ],
)
def test_normal_forms(raw, form):
    assert normal_form(raw) == form == vocabulary_form(raw)


def test_only_the_first_full_stops_go():
    assert normal_form("." * 40 + "x") == "." * 8 + "x"


def test_contractions_lose_one_apostrophe_at_a_time():
    assert CONTRACTIONS["couldnt've"] == CONTRACTIONS["couldn'tve"] == "couldn't've"
    assert "couldntve" not in CONTRACTIONS and "lets" not in CONTRACTIONS


def test_ids_follow_first_occurrence_and_targets_the_raw_answers():
    rows = [Annotation(n, 1, answer, ()) for n, answer in enumerate(("Two", "yes", "2", "rare"))]
    vocabulary = build_vocabulary(rows + rows[:3], min_count=2)
    assert vocabulary == ["2", "yes"]
    ids = {answer: number for number, answer in enumerate(vocabulary)}
    assert soft_targets(["yes", "2", "yes", "two", "Yes."], ids) == {1: 0.6, 0: 0.3}
    assert soft_targets(["two"] * 10, ids) == {}
    assert [answer_score(n) for n in range(6)] == [0.0, 0.3, 0.6, 0.9, 1.0, 1.0]
