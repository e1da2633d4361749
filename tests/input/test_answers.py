"""What answers of people are worth."""

import pytest

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.vqa_answers import soft_targets
from vlmo_jax.input.answers import AnswerTargets

LIST = ("2", "yes", "no")


@pytest.mark.parametrize(
    "answers",
    [["Yes."] * 4 + ["yes"] * 2 + ["2"] * 4, ["two"] * 9 + ["2"], ["no"] * 10, ["maybe"] * 10],
)
def test_the_official_matching_looks_up_what_was_typed(answers):
    expected = soft_targets(answers, {answer: number for number, answer in enumerate(LIST)})
    assert AnswerTargets(LIST).scores(answers) == expected


def test_the_repaired_matching_finds_other_spellings():
    targets = AnswerTargets(LIST, "normalised")
    assert targets.scores(["Yes."] * 4 + ["yes"] * 2 + ["two"] * 3 + ["No!"]) == {
        1: 1.0,
        0: 0.9,
        2: 0.3,
    }


def test_of_other_than_ten_people_shares_count():
    targets = AnswerTargets(LIST)
    assert targets.scores(["yes"]) == {1: 1.0}
    assert targets.scores(["yes", "no", "no"]) == {2: 1.0, 1: 0.9}
    assert targets.scores(["yes"] + ["no"] * 19) == {2: 1.0, 1: 0.3}
    assert targets.scores([]) == {}


def test_unknown_matchings_are_refused():
    with pytest.raises(
        ConfigError, match="config.data.answer_matching='lower' is not allowed; use"
    ):
        AnswerTargets(LIST, "lower")
