"""Kind `segment_eval`: scores of segmentation, and predictions by sliding windows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlmo_jax.datasets.masks import without_other
from vlmo_jax.evals.mean_iou import segmentation_scores
from vlmo_jax.evals.sliding_windows import average_over_windows, windows_over
from vlmo_jax.interop.checks.reference import OUTPUT_TOLERANCE, Arrays, Info
from vlmo_jax.layers.grids import resize_bilinear

SCORE_TOLERANCE = 1e-12


def check_segment_eval(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares accuracies and intersections over unions, windows, and logits averaged over them."""
    _check_scores(arrays, info["miou"], report)
    for number, case in enumerate(info["slide"]):
        windows = windows_over(case["image"], case["crop"], case["stride"])
        wanted = case["windows_y1_y2_x1_x2"]
        report.compare_equal(f"slide/{number}/windows", list(map(list, windows)), wanted)
        if "arrays" in case:
            _check_logits(arrays, case, report)


def _check_scores(arrays: Arrays, wanted: Info, report: Any) -> None:
    images = range(wanted["images"])
    labels = [arrays[f"miou/label_{i}"] for i in images]
    if wanted["reduce_zero_label"]:
        labels = list(map(without_other, labels))
    predictions = [arrays[f"miou/prediction_{i}"] for i in images]
    scores = segmentation_scores(zip(predictions, labels, strict=True), wanted["num_classes"])
    ours = {
        "aAcc": scores.pixel_accuracy,
        "mAcc": scores.mean_accuracy,
        "mIoU": scores.mean_iou,
    }
    for name, value in ours.items():
        report.compare(f"miou/{name}", value, wanted[name], SCORE_TOLERANCE)
    for name, classes in (("acc", scores.accuracy), ("iou", scores.iou)):
        theirs = np.array(wanted[f"per_class_{name}"], np.float64)
        absent = [np.flatnonzero(np.isnan(values)).tolist() for values in (classes, theirs)]
        report.compare_equal(f"miou/{name}/absent", *absent)
        values = np.nan_to_num(classes), np.nan_to_num(theirs)
        report.compare(f"miou/{name}", *values, SCORE_TOLERANCE)


def _check_logits(arrays: Arrays, case: Info, report: Any) -> None:
    prefix = case["arrays"]
    mixed, mean = arrays[f"{prefix}a"], arrays[f"{prefix}b"]

    def predict(images: jax.Array) -> jax.Array:
        return images @ mixed.T + images.mean((1, 2, 3), keepdims=True) * mean[None, None, None]

    images = jnp.asarray(arrays[f"{prefix}image"].transpose(0, 2, 3, 1))
    logits = average_over_windows(predict, images, case["crop"], case["stride"])
    resized = resize_bilinear(logits, case["original"])
    for name, ours in (("logits", logits), ("logits_at_original_size", resized)):
        theirs = arrays[prefix + name].transpose(0, 2, 3, 1)
        report.compare(prefix + name, ours, theirs, OUTPUT_TOLERANCE)
