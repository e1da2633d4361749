"""BEiT with UperNet gives the reference numbers, and every changed array is noticed."""

import numpy as np
import pytest

from tests.interop.checks.changes import changed_at, failures, moved
from tests.paths import DATA
from vlmo_jax.interop.beit_segmenter import (
    NotASegmenterError,
    read_beit_segmenter,
    write_beit_segmenter_hf,
)
from vlmo_jax.interop.checks.reference import group, load_fixture, same_tensors

ARRAYS, INFO = load_fixture(DATA / "downstream" / "beit_segment_small.json")
TENSORS = {**group(ARRAYS, "param"), **group(ARRAYS, "buffer")}


def test_changed_values_are_noticed():
    assert failures(ARRAYS, INFO) == set()
    names = {
        "train_after/decode_head.bottleneck.bn.running_var",
        "train/loss_aux",
        "eval/loss_main_mean_over_all_pixels",
        "eval/neck/2",
        "eval/hf_indexing_logits",
        "train_grad/fpn1.3.weight",
        "eval_grad/auxiliary_head.convs.0.conv.weight",
    }
    changed = {name: moved(ARRAYS[name]) for name in names}
    changed["eval/argmax"] = np.array(ARRAYS["eval/argmax"])
    changed["eval/argmax"][0] = (changed["eval/argmax"][0] + 1) % 4
    other = changed_at(INFO, "config", "batch_norm", "eps", value=1e-3)
    noticed = {*names, "eval/argmax, pixels that differ", "batch_norm"}
    assert failures(ARRAYS, other, changed) == noticed


def test_both_spellings_lead_here_and_back():
    read = read_beit_segmenter(TENSORS, num_heads=2)
    meta = {"config": read.config}
    assert read.config["model"]["blocks"] == (0, 2, 3, 5)
    assert same_tensors(write_beit_segmenter_hf(read.params, meta, {}), TENSORS)
    with pytest.raises(NotASegmenterError, match="missing .*fpn1.0.weight"):
        read_beit_segmenter({n: x for n, x in TENSORS.items() if n != "fpn1.0.weight"}, num_heads=2)
    wide = {**TENSORS, "decode_head.bottleneck.bn.weight": np.ones(7, np.float32)}
    with pytest.raises(NotASegmenterError, match="do not fit .*bottleneck.bn.weight"):
        read_beit_segmenter(wide, num_heads=2)
