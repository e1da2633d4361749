"""Mixup and CutMix: timm's batches hold, and every changed value is noticed."""

import numpy as np
import pytest

from tests.interop.checks.changes import changed_at, failures, moved
from tests.paths import DATA
from vlmo_jax.interop.checks.reference import load_fixture

ARRAYS, INFO = load_fixture(DATA / "downstream" / "mixup.json")
CASES = {case["name"]: number for number, case in enumerate(INFO["cases"])}


def test_all_of_timm_holds():
    assert failures(ARRAYS, INFO) == set()


def test_every_changed_array_is_noticed():
    for name, array in ARRAYS.items():
        changed = {name: (array + 1) % 7 if name == "in/labels" else moved(array)}
        assert failures(ARRAYS, INFO, changed), name


@pytest.mark.parametrize(
    "case, path, value, noticed",
    [
        ("mixup_batch", ("lam",), 0.301, "mixup_batch/images"),
        ("mixup_batch", ("label_smoothing",), 0.11, "mixup_batch/targets"),
        ("mixup_batch", ("soft_target_loss",), 3.3202, "mixup_batch/soft_target_loss"),
        ("cutmix_batch", ("centres_cy_cx", 0, 0), 9, "cutmix_batch/boxes"),
        ("cutmix_batch", ("correct_lam",), False, "cutmix_batch/shares"),
        ("elem", ("timm_0.4.12_boxes_and_lam", 0, 0, 1), 10, "elem/timm_0.4.12_boxes"),
        ("elem", ("lam", 0), 0.25, "elem/images"),
        ("pair", ("mode",), "elem", None),
    ],
)
def test_a_changed_draw_is_noticed(case, path, value, noticed):
    changed = changed_at(INFO, "cases", CASES[case], *path, value=value)
    if noticed is None:
        with pytest.raises(ValueError, match="3 mixes for 6 images"):
            failures(ARRAYS, changed)
    else:
        assert noticed in failures(ARRAYS, changed)


def test_the_older_box_is_not_the_newer_one():
    name = "cutmix_batch/images"
    assert np.abs(ARRAYS[name] - ARRAYS["cutmix_batch/timm_0.4.12_images"]).max() > 0.1
    assert failures(ARRAYS, INFO, {name: ARRAYS["cutmix_batch/timm_0.4.12_images"]}) == {name}
