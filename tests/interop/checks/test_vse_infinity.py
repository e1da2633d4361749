"""VSE-infinity's numbers hold, and the check notices each one that is another."""

import json

import numpy as np
import pytest

from tests.interop.checks.changes import failures, moved
from tests.paths import DATA

FIXTURE = DATA / "siblings" / "vse_infty.npz"


@pytest.fixture(scope="module")
def reference():
    with np.load(FIXTURE) as loaded:
        arrays = dict(loaded)
    return arrays, json.loads(FIXTURE.with_suffix(".json").read_text())


def test_official_numbers_hold(reference):
    assert not failures(*reference)


def test_wrong_numbers_are_noticed(reference):
    """Those that are compared and not read: all can be changed at once."""
    arrays, info = reference
    read = ("param/", "buffer/", "features", "lengths", "cotangent", "enc/images", "enc/captions")
    compared = {
        name: moved(array)
        for name, array in arrays.items()
        if not any(part in name for part in read) and name not in ("triplet/im", "triplet/s")
    }
    compared["gpo/grad_features"] = moved(arrays["gpo/grad_features"])
    found = failures(arrays, info, compared)
    names = {"enc_train/after mean", "enc_train/after var"}
    names |= {f"enc_train/after unused {name}" for name in ("running_mean", "running_var")}
    wanted = {name for name in compared if "after_mlp" not in name} | names
    assert found == wanted


def test_wrong_weights_are_noticed(reference):
    arrays, info = reference
    names = ("gpo/param/gru.bias_hh_l0_reverse", "enc/buffer/mlp.bns.0.running_var")
    found = failures(arrays, info, {name: moved(arrays[name]) for name in names})
    assert {"gpo/pooled", "enc_eval/embeddings"} <= found
