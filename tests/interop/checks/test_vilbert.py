"""Outputs, losses and gradients of ViLBERT are those of the reference arrays, and a change of any
shows.
"""

import json

import numpy as np
import pytest

from tests.interop.checks.changes import changed_at, failures, moved
from tests.paths import DATA

PATH = DATA / "siblings/vilbert"


@pytest.fixture(scope="module")
def arrays():
    return dict(np.load(PATH.with_suffix(".npz")))


@pytest.fixture(scope="module")
def info():
    return json.loads(PATH.with_suffix(".json").read_text())


def test_everything_holds(arrays, info):
    assert failures(arrays, info) == set()


@pytest.mark.parametrize(
    "name",
    [
        "sequence_output_t",
        "pooled_output_v",
        "prediction_scores_v",
        "seq_relationship_score",
        "masked_img_loss",
        "total_loss",
        "alt_sum_mse/masked_img_loss",
        "grad/bert.encoder.c_layer.0.biattention.query1.weight",
        "grad/cls.predictions.bias",
    ],
)
def test_a_changed_output_shows(arrays, info, name):
    assert failures(arrays, info, {name: moved(arrays[name])}) == {name}


def test_a_changed_parameter_or_input_shows(arrays, info):
    for name, shows in (
        ("param/bert.encoder.c_layer.0.biOutput.dense1.weight", "sequence_output_v"),
        ("image_label", "masked_img_loss"),
    ):
        changed = -arrays[name] if name == "image_label" else moved(arrays[name])
        assert shows in failures(arrays, info, {name: changed})


def test_other_rules_show(arrays, info):
    # Each co-attention block a layer too early.
    early = {name: array for name, array in arrays.items() if not name.startswith("alt_sum_mse/")}
    assert "sequence_output_t" in failures(
        early, changed_at(info, "config", "t_biattention_id", value=[0, 1])
    )
    with pytest.raises(ValueError, match="not known"):
        failures(arrays, info, {"other": np.zeros(2)})
    with pytest.raises(ValueError, match="do not fit the sizes"):
        failures(arrays, changed_at(info, "config", "vocab_size", value=100))
