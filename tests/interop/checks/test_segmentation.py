"""Scores of segmentation: the official ones hold, and every changed value is noticed."""

import numpy as np
import pytest

from tests.interop.checks.changes import changed_at, failures, moved
from tests.paths import DATA
from vlmo_jax.interop.checks.reference import load_fixture

ARRAYS, INFO = load_fixture(DATA / "downstream" / "segment_eval.json")
SCORES = {**INFO, "slide": []}
SMALL = INFO["slide"][1]


def test_all_of_mmsegmentation_holds():
    assert failures(ARRAYS, INFO) == set()


@pytest.mark.parametrize(
    "path, value, noticed",
    [
        (("mIoU",), INFO["miou"]["sensitivity"]["mean_of_per_image_mIoU"], {"miou/mIoU"}),
        (("mAcc",), 0.61728, {"miou/mAcc"}),
        (("aAcc",), 0.63956, {"miou/aAcc"}),
        (("per_class_acc", 2), 0.71685, {"miou/acc"}),
        (("per_class_iou", 11), None, {"miou/iou/absent"}),
        (("per_class_iou", 10), 0.0, {"miou/iou/absent"}),
    ],
)
def test_a_changed_score_is_noticed(path, value, noticed):
    assert failures(ARRAYS, changed_at(SCORES, "miou", *path, value=value)) == noticed


def test_a_changed_pixel_is_noticed():
    for name in ("miou/label_1", "miou/prediction_4"):
        changed = np.array(ARRAYS[name])
        changed[0, 0] = 3 if changed[0, 0] != 3 else 4
        assert "miou/mIoU" in failures(ARRAYS, SCORES, {name: changed})


def test_changed_windows_and_logits_are_noticed():
    alone = {**INFO, "slide": [SMALL]}
    assert failures(ARRAYS, alone) == set()
    windows = changed_at(alone, "slide", 0, "windows_y1_y2_x1_x2", 1, 2, value=16)
    assert failures(ARRAYS, windows) == {"slide/0/windows"}
    for name in ("image", "a", "b", "logits", "logits_at_original_size"):
        name = SMALL["arrays"] + name
        assert failures(ARRAYS, alone, {name: moved(ARRAYS[name])}), name
