"""Which splits an evaluation opens."""

import pytest
from ml_collections import ConfigDict

from vlmo_jax.evals.evaluation import evaluation_splits


def config(source=None, splits=()):
    return ConfigDict(dict(source=source, splits=splits), convert_dict=False)


def test_all_splits_but_the_one_trained_on():
    assert set(evaluation_splits(config(), "emoji", "train")) == {
        "emoji_unseen_artist",
        "emoji_unseen_concepts",
    }
    joined = evaluation_splits(config(), "emoji+openclipart", "train")
    assert set(joined) == {"emoji_unseen_artist", "emoji_unseen_concepts", "openclipart_validation"}
    assert len(joined["openclipart_validation"]) == 99
    assert set(evaluation_splits(config(), "openclipart", "train[:90%]")) == {
        "openclipart_validation"
    }
    assert set(evaluation_splits(config("openclipart"), "emoji", "train")) == {
        "openclipart_train",
        "openclipart_validation",
    }
    assert set(evaluation_splits(config("emoji", ("unseen_concepts[:8]",)), None, "train")) == {
        "emoji_unseen_concepts[:8]"
    }


def test_two_splits_of_one_name_are_refused():
    with pytest.raises(
        ValueError, match="two data sets have a split named emoji_train; rename the folder of one"
    ):
        evaluation_splits(config("emoji+emoji", ("train",)), None, "train")
