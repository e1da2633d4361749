"""A step of ALBEF is that of the reference, and what is changed in it shows."""

import json

import numpy as np
import pytest

from tests.interop.checks.changes import changed_at, failures, moved
from tests.paths import DATA
from vlmo_jax.interop.checks.albef import join_step_before
from vlmo_jax.interop.checks.reference import load_fixture

STEP, AFTER = (DATA / "siblings" / f"{name}.json" for name in ("albef", "albef_momentum_after"))


@pytest.fixture(scope="module")
def step():
    return load_fixture(STEP)


@pytest.fixture(scope="module")
def after():
    return join_step_before(AFTER, *load_fixture(AFTER))


def test_the_step_is_that_of_the_official_code(step):
    assert not failures(*step)


@pytest.mark.parametrize(
    "name",
    [
        "param/temp",
        "param/text_encoder.bert.encoder.layer.2.crossattention.self.value.weight",
        "param/visual_encoder_m.blocks.1.attn.qkv.weight",
        "param/text_encoder_m.cls.predictions.transform.dense.weight",
        "buffer/image_queue",
        "buffer/queue_ptr",
        "after/text_queue",
        "after/queue_ptr",
        "sim_t2i_targets",
        "grad/temp",
        "grad/text_encoder.cls.predictions.bias",
        "mlm_labels",
    ],
)
def test_a_changed_array_shows(step, name):
    arrays, info = step
    assert failures(arrays, info, {name: moved(arrays[name])})


@pytest.mark.parametrize("name, value", [("alpha", 0.5), ("queue_ptr_before", 6)])
def test_a_changed_setting_shows(step, name, value):
    arrays, info = step
    assert failures(arrays, changed_at(info, "config", name, value=value))


def test_a_missing_gradient_or_an_unknown_array_shows(step):
    arrays, info = step
    fewer = {name: array for name, array in arrays.items() if name != "grad/temp"}
    assert any("number of grad/*" in line for line in failures(fewer, info))
    with pytest.raises(ValueError, match="outputs that are not known: .'loss_other'"):
        failures({**arrays, "loss_other": np.zeros(1)}, info)
    with pytest.raises(ValueError, match="param/ holds tensors that are not known"):
        failures({**arrays, "param/other": np.zeros(1)}, info)


def test_momentum_towers_move_as_in_the_official_code(after):
    arrays, info = after
    assert not failures(arrays, info)
    for name in ("after/text_proj_m.bias", "param/text_proj.bias", "param/text_proj_m.bias"):
        assert failures(arrays, info, {name: moved(arrays[name])})
    listed = {n: a for n, a in arrays.items() if n != "after/text_proj_m.bias"}
    assert failures(listed, info)
    assert failures(arrays, changed_at(info, "momentum", value=0.9))


def test_without_the_step_before_it_says_what_is_missing(tmp_path):
    path = tmp_path / AFTER.name
    path.write_text(json.dumps({"kind": "albef_momentum_after"}))
    with pytest.raises(FileNotFoundError, match="fixture of kind albef; put it beside .* albef.js"):
        join_step_before(path, {}, {})
