"""Scoring nothing, or less than the split, is an error and no figure."""

import numpy as np
import pytest

from vlmo_jax.evals.consistency import MissingPredictionsError, accuracy_and_consistency
from vlmo_jax.evals.folds import fold_metrics
from vlmo_jax.evals.vqa_accuracy import question_accuracy, vqa_accuracy


def test_nothing_is_not_scored():
    with pytest.raises(ValueError, match="no questions"):
        vqa_accuracy([])
    with pytest.raises(ValueError, match="no examples"):
        accuracy_and_consistency({}, {})


def test_missing_predictions_are_named():
    labels = {f"dev-0-0-{n}": "True" for n in range(9)}
    with pytest.raises(MissingPredictionsError, match="8 examples .*: dev-0-0-1, .*, dev-0-0-5, "):
        accuracy_and_consistency(labels, {"dev-0-0-0": "True"})


def test_answers_that_all_agree_are_taken_to_the_letter():
    assert question_accuracy(["2"] * 10, "Two") == 0.0
    assert question_accuracy(["2"] * 9 + ["two"], "Two") == 1.0
    assert question_accuracy(["2"] * 2 + [str(n) for n in range(11, 19)], "2") == pytest.approx(0.6)


def test_folds_are_searched_alone():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 4)).astype(np.float32)
    texts, groups = np.repeat(images, 2, axis=0) + 0.1, np.repeat(np.arange(8), 2)
    metrics = fold_metrics(images, texts, np.arange(8), groups, folds=8)
    assert metrics["mean_recall"] == 1.0 and metrics["image_to_text_mean_rank"] == 1.0
    with pytest.raises(ValueError, match="8 images do not divide into 3 folds"):
        fold_metrics(images, texts, np.arange(8), groups, folds=3)
