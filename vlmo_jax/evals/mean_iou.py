"""Scores of segmentation: how well predicted classes cover the labelled ones, counted in pixels of
all images together.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from vlmo_jax.datasets.masks import IGNORED


class SegmentationScores(NamedTuple):
    """Shares from 0 to 1.

    Attributes:
        pixel_accuracy: of the labelled pixels, those that are right.
        mean_accuracy: mean of `accuracy` over the classes that are labelled somewhere.
        mean_iou: mean of `iou` over the classes that are labelled or predicted somewhere.
        accuracy: of the pixels with each label those that are right, float64 [K], NaN without any.
        iou: pixels that have a class in both, among those that have it in either, float64 [K], NaN
            without any.
    """

    pixel_accuracy: float
    mean_accuracy: float
    mean_iou: float
    accuracy: np.ndarray
    iou: np.ndarray


def segmentation_scores(
    images: Iterable[tuple[np.ndarray, np.ndarray]], num_classes: int
) -> SegmentationScores:
    """Scores the images of a split.

    Args:
        images: (prediction, label) of each, integers of the same shape: classes 0 .. K - 1, and in
            labels `IGNORED`.
        num_classes: K.

    Raises:
        ValueError: no pixel is labelled.

    Source: mmsegmentation 0.11, mean_iou, which BEiT's results on ADE20K are made with.
    """
    return scores_of(count_pixels(images, num_classes))


def count_pixels(images: Iterable[tuple[np.ndarray, np.ndarray]], num_classes: int) -> np.ndarray:
    """What the scores are made of: pixels that are right, that are predicted and that are labelled,
    of each class, int64 [3, K]. Arguments as of `segmentation_scores`.
    """
    right, predicted, labelled = counts = np.zeros((3, num_classes), np.int64)
    for prediction, label in images:
        counted = label != IGNORED
        prediction, label = prediction[counted], label[counted]
        right += _pixels(label[prediction == label], num_classes)
        predicted += _pixels(prediction, num_classes)
        labelled += _pixels(label, num_classes)
    return counts


def scores_of(counts: np.ndarray) -> SegmentationScores:
    """Scores of `count_pixels`, which may be added up over images and processes.

    Raises:
        ValueError: no pixel is labelled.
    """
    right, predicted, labelled = counts
    if not labelled.any():
        raise ValueError("there are no labelled pixels to score")
    accuracy = _shares(right, labelled)
    iou = _shares(right, predicted + labelled - right)
    return SegmentationScores(
        pixel_accuracy=float(right.sum() / labelled.sum()),
        mean_accuracy=float(np.nanmean(accuracy)),
        mean_iou=float(np.nanmean(iou)),
        accuracy=accuracy,
        iou=iou,
    )


def _pixels(classes: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels of each class, int64 [K]."""
    return np.bincount(classes[classes < num_classes], minlength=num_classes)


def _shares(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The part over the whole, NaN where there is no whole."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
