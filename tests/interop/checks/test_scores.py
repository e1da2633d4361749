"""Scores of answers and searches: the official values hold, and every changed one is noticed."""

import numpy as np
import pytest

from tests.interop.checks.changes import changed_at, failures
from tests.paths import DATA
from vlmo_jax.interop.checks.reference import load_fixture

FOLDERS = {"retrieval_metrics": "siblings"}


def load(name):
    return load_fixture(DATA / FOLDERS.get(name, "downstream") / f"{name}.json")


@pytest.mark.parametrize(
    "name, changes",
    [
        (
            "vqa_eval",
            [
                (("overall",), 51.39),
                (("per_answer_type", "number"), 50.11),
                (("per_question_type", "how many"), 46.2),
                (("questions", 3, "accuracy"), 12.0),
                (("questions", 0, "answers", 2), "skateboard"),
                (("normalise", 3, 1), "Yes."),
                (("normalise", 9, 3), "an apple"),
            ],
        ),
        (
            "vqa_vocab",
            [
                (("min_count_3", "vocabulary", 4), "yall"),
                (("min_count_9", "targets", "1000000"), [[1], [1.0]]),
                (("min_count_3", "dropped", "train", 0), 5),
                (("min_count_9", "images_dropped", "val", 1), 5),
                (("files", "train", 0, 2), "wintery"),
            ],
        ),
        (
            "nlvr2_consistency",
            [
                (("cases", 0, "expected", "consistency"), 0.4642857142857143),
                (("cases", 4, "expected", "accuracy"), 0.67),
                (("cases", 6, "expected", "missing"), ["dev-119-3-0"]),
                (("cases", 0, "predictions", 0, 1), "false"),
            ],
        ),
        (
            "retrieval_folds",
            [
                (("five_folds", "folds", 2, "rsum"), 439.5),
                (("five_folds", "folds", 4, "text_to_image", 4), 4.6),
                (("five_folds", "mean_of_five_folds", "image_to_text", 1), 83.5),
                (("five_folds", "all_at_once", "text_to_image", 3), 4.0),
                (("rerank", "cases", 1, "VLMo_fraction", "IR@1"), 0.3792),
                (("rerank", "cases", 0, "ALBEF_percent", "txt_r_mean"), 84.0),
                (("rerank", "cases", 0, "k"), 11),
            ],
        ),
    ],
)
def test_official_scores_hold_and_changed_ones_are_noticed(name, changes):
    arrays, info = load(name)
    assert failures(arrays, info) == set()
    for path, value in changes:
        assert failures(arrays, changed_at(info, *path, value=value)), path


def test_ranks_and_recalls_of_tables_hold_and_changed_ones_are_noticed():
    arrays, info = load("retrieval_metrics")
    assert failures(arrays, info) == set()
    keys = [key for key in arrays if key.startswith("case1/") and "top1" not in key]
    for key in keys:
        array = np.array(arrays[key])
        if "scores" in key:
            array = array[::-1].copy()
        else:
            array.reshape(-1)[0] += 1
        assert failures(arrays, info, {key: array}), key
