"""How often images are taken for what they are: scores and tables of classification."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

TOP, _LISTED = 5, 20


class Classified(NamedTuple):
    """A split with what a model takes its images for.

    Attributes:
        truth: int [N], numbers of classes.
        best: int [N, up to 5], likeliest first.
        scores: float [N, up to 5], what the model says of them.
        confusion: int [C, C], images of a class (row) that were taken for another (column).
    """

    truth: np.ndarray
    best: np.ndarray
    scores: np.ndarray
    confusion: np.ndarray


def confusion_of(truth: np.ndarray, taken_for: np.ndarray, num_classes: int) -> np.ndarray:
    """How many images of a class (row) are taken for another (column): int64 [C, C].

    Args:
        truth, taken_for: int [N], numbers of classes.
        num_classes: C.
    """
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (truth, taken_for), 1)
    return confusion


def class_metrics(classified: Classified) -> dict[str, float]:
    """accuracy, with more than five classes accuracy_top_5, class_accuracy (the mean over classes
    that occur) and baseline_accuracy, that of naming the most frequent class: all 0 to 1.
    """
    truth, best, _, confusion = classified
    right, counts = best == truth[:, None], confusion.sum(axis=1)
    occurring = counts > 0
    metrics = {"accuracy": float(right[:, 0].mean())}
    if len(counts) > TOP:
        metrics["accuracy_top_5"] = float(right.any(axis=1).mean())
    shares = np.diagonal(confusion)[occurring] / counts[occurring]
    baseline = float(counts.max() / counts.sum())
    return {**metrics, "class_accuracy": float(shares.mean()), "baseline_accuracy": baseline}


def class_table(classes: Sequence[str], confusion: np.ndarray) -> list[dict[str, Any]]:
    """Of each class that occurs its images, the share that is right, and what the others are taken
    for most often, the most frequent first: plain values.
    """
    rows = []
    for number in np.argsort(-confusion.sum(axis=1), kind="stable"):
        row, count = confusion[number].copy(), int(confusion[number].sum())
        if not count:
            continue
        right, row[number] = int(row[number]), 0
        other = int(row.argmax())
        rows.append(
            {
                "class": classes[number],
                "images": count,
                "accuracy": right / count,
                "taken_for": classes[other] if row[other] else "",
                "taken_for_images": int(row[other]),
            }
        )
    return rows


def format_table(rows: Sequence[Mapping[str, Any]], limit: int = _LISTED) -> list[str]:
    """`class_table` as lines, the first `limit` of it."""
    lines = [
        f"  {row['class'][:28]:<28} {row['images']:6,} images  {row['accuracy']:7.2%}"
        + (f"  {row['taken_for']} {row['taken_for_images']:,}" if row["taken_for"] else "")
        for row in rows[:limit]
    ]
    return lines + ([f"  and {len(rows) - limit:,} more classes"] if len(rows) > limit else [])


def prediction_lines(
    source: Sequence[Any], classes: Sequence[str], classified: Classified
) -> Iterator[dict[str, Any]]:
    """The predictions of a split, an object an image."""
    for row in range(len(source)):
        best = zip(classified.best[row], classified.scores[row], strict=True)
        yield {
            "image_id": source[row].image_id,
            "class": classes[classified.truth[row]],
            "top": [[classes[number], round(float(score), 6)] for number, score in best],
        }
