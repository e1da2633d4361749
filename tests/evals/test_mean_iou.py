"""Scores of segmentation, by hand."""

import numpy as np
import pytest

from vlmo_jax.datasets.masks import IGNORED, without_other
from vlmo_jax.evals.mean_iou import segmentation_scores


def test_other_is_ignored_and_classes_count_from_zero():
    labels = np.array([[0, 1], [150, IGNORED]], np.uint8)
    np.testing.assert_array_equal(without_other(labels), [[IGNORED, 0], [149, IGNORED]])


def test_areas_are_summed_before_they_are_divided():
    """Class 0 is right in 3 of 5 pixels of either, class 1 in 2 of 4; class 2 is only predicted,
    class 3 nowhere.
    """
    images = [
        (np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0])),
        (np.array([0, 1, 2, 2]), np.array([0, 1, 1, IGNORED])),
    ]
    scores = segmentation_scores(images, 4)
    np.testing.assert_allclose(scores.iou, [3 / 4, 2 / 4, 0, np.nan])
    np.testing.assert_allclose(scores.accuracy, [3 / 4, 2 / 3, np.nan, np.nan])
    assert scores.pixel_accuracy == 5 / 7
    assert scores.mean_iou == pytest.approx((3 / 4 + 1 / 2) / 3)
    assert scores.mean_accuracy == pytest.approx((3 / 4 + 2 / 3) / 2)


def test_nothing_labelled_is_no_score():
    with pytest.raises(ValueError, match="no labelled pixels"):
        segmentation_scores([(np.zeros(3, int), np.full(3, IGNORED))], 2)
    with pytest.raises(ValueError, match="no labelled pixels"):
        segmentation_scores([], 2)
