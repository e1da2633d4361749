"""BEiT as a classifier: the reference holds, and what is changed is noticed."""

import numpy as np
import pytest

from tests.interop.checks.changes import changed_at, failures, moved
from tests.paths import DATA
from vlmo_jax.interop.checks.reference import load_fixture

NAMES = ("beit_classify_perlayer", "beit_classify_shared")
FIXTURES = {name: load_fixture(DATA / "downstream" / f"{name}.json") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_states_logits_losses_and_every_gradient_hold(name):
    assert failures(*FIXTURES[name]) == set()


def test_moved_outputs_are_noticed():
    arrays, info = FIXTURES[NAMES[0]]
    names = [name for name in arrays if name.startswith("out/")]
    names += [name for name in arrays if name.startswith("grad/")][::5]
    changed = {name: moved(arrays[name]) for name in names}
    assert failures(arrays, info, changed) == set(names)


def test_moved_weights_and_inputs_are_noticed():
    arrays, info = FIXTURES[NAMES[0]]
    layer = "param/beit.encoder.layer.1"
    for name, shown in (
        (f"{layer}.attention.attention.key.weight", "out/hidden/2"),
        ("param/beit.pooler.layernorm.bias", "out/pooled"),
        ("param/classifier.weight", "out/logits"),
        ("in/pixel_values", "out/hidden/0"),
    ):
        assert shown in failures(arrays, info, {name: moved(arrays[name])})
    assert "out/loss_plain" in failures(arrays, info, {"in/labels": (arrays["in/labels"] + 1) % 7})


def test_other_settings_show():
    arrays, info = FIXTURES[NAMES[0]]
    changed = changed_at(info, "config", "layer_norm_eps", value=1e-5)
    changed = changed_at(changed, "config", "label_smoothing", value=0.2)
    assert {"out/logits", "out/loss_smoothed"} <= failures(arrays, changed)
    assert "sizes" in failures(arrays, changed_at(info, "config", "patch_size", value=10))


def test_a_lost_gradient_and_an_unknown_output_are_noticed():
    arrays, info = FIXTURES[NAMES[1]]
    fewer = {name: array for name, array in arrays.items() if name != "grad/classifier.bias"}
    assert any("grad" in name for name in failures(fewer, info))
    with pytest.raises(ValueError, match="outputs that are not known: .'more'"):
        failures(arrays, info, {"out/more": np.zeros(2)})
