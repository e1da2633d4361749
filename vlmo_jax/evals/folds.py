"""Parts of a split that are searched alone, and the means over them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vlmo_jax.evals.recall import Ranks, best_ranks, recall_metrics, scored_ranks


class Fold(NamedTuple):
    """A part of a split that is searched alone: rows of its images and of its texts."""

    images: np.ndarray
    texts: np.ndarray


def split_folds(image_groups: np.ndarray, text_groups: np.ndarray, folds: int) -> list[Fold]:
    """Deals images into folds as they come, each as large, and every text to its image's.

    Args:
        image_groups: [I] int32, all different.
        text_groups: [T] int32.
        folds: divides I.

    Raises:
        ValueError: the images do not divide into so many folds.
    """
    if folds < 1 or len(image_groups) % folds:
        raise ValueError(f"{len(image_groups)} images do not divide into {folds} folds")
    parts = np.split(np.arange(len(image_groups)), folds)
    return [Fold(rows, np.flatnonzero(np.isin(text_groups, image_groups[rows]))) for rows in parts]


def both_ranks(
    images: np.ndarray,
    texts: np.ndarray,
    image_groups: np.ndarray,
    text_groups: np.ndarray,
    folds: Sequence[Fold],
) -> tuple[Ranks, Ranks]:
    """Ranks of the images' searches for texts and of the texts' for images, each in its fold.

    Args:
        images: embeddings [I, D] float32.
        texts: embeddings [T, D] float32.
        image_groups: [I] int32.
        text_groups: [T] int32.
        folds: which together are the split.
    """
    to_text, to_image = Ranks.empty(len(images)), Ranks.empty(len(texts))
    for rows, here in folds:
        image, text, groups = images[rows], texts[here], (image_groups[rows], text_groups[here])
        _put(to_text, rows, best_ranks(image, text, *groups))
        _put(to_image, here, best_ranks(text, image, *groups[::-1]))
    return to_text, to_image


def both_scored_ranks(
    scores: np.ndarray,
    image_groups: np.ndarray,
    text_groups: np.ndarray,
    folds: Sequence[Fold],
) -> tuple[Ranks, Ranks]:
    """As `both_ranks`, by scores [I, T] float32 of images with texts."""
    to_text, to_image = Ranks.empty(len(scores)), Ranks.empty(scores.shape[1])
    for rows, here in folds:
        part, groups = scores[np.ix_(rows, here)], (image_groups[rows], text_groups[here])
        _put(to_text, rows, scored_ranks(part, *groups))
        _put(to_image, here, scored_ranks(part.T, *groups[::-1]))
    return to_text, to_image


def _put(whole: Ranks, places: np.ndarray, ranks: Ranks) -> None:
    for old, new in zip(whole, ranks, strict=True):
        old[places] = new


def mean_metrics(to_text: Ranks, to_image: Ranks, folds: Sequence[Fold]) -> dict[str, float]:
    """Means over folds of `recall_metrics`.

    Args:
        to_text: of all images.
        to_image: of all texts.
        folds: their rows.
    """
    found = [recall_metrics(to_text.take(rows), to_image.take(here)) for rows, here in folds]
    return {name: float(np.mean([metrics[name] for metrics in found])) for name in found[0]}


def fold_metrics(
    images: np.ndarray,
    texts: np.ndarray,
    image_groups: np.ndarray,
    text_groups: np.ndarray,
    *,
    folds: int,
) -> dict[str, float]:
    """Metrics of parts of a split, each searched alone, and their mean: COCO's "1k" figures are the
    mean of five folds of its 5,000 test images.

    Args:
        images: embeddings [I, D] float32, in the order in which they are dealt into folds.
        texts: embeddings [T, D] float32, each in the fold of its image.
        image_groups: [I] int32, all different.
        text_groups: [T] int32.
        folds: divides I.

    Returns:
        Means over the folds of `recall_metrics`.

    Raises:
        ValueError: the images do not divide into so many folds.

    Source: VSE-infinity (fold5 evaluation).
    """
    parts = split_folds(image_groups, text_groups, folds)
    return mean_metrics(*both_ranks(images, texts, image_groups, text_groups, parts), parts)
