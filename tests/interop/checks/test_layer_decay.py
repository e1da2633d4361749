"""Rates by layer and weight decay: BEiT's hold, and every changed one is noticed."""

import pytest

from tests.interop.checks.changes import changed_at, failures
from tests.paths import DATA
from vlmo_jax.interop.checks.reference import load_fixture

ARRAYS, INFO = load_fixture(DATA / "downstream" / "layer_decay.json")


def test_all_of_beit_holds():
    assert failures(ARRAYS, INFO) == set()


@pytest.mark.parametrize(
    "part, case, path, value",
    [
        ("classification", 0, ("block_factor", 3), 0.2316169462842),
        ("classification", 0, ("block_parameters_decayed", "gamma_1"), True),
        ("classification", 0, ("others", "head.weight"), [0.85, True]),
        ("classification", 2, ("arguments", "no_decay_on_rel_pos_bias"), False),
        ("classification", 3, ("parameters", "pos_embed"), [0.421875, True]),
        ("classification", 4, ("parameters", "norm.bias"), [0.5, False]),
        ("classification", 5, ("arguments", "layer_decay"), 0.9999),
        ("segmentation", 0, ("parameters", "backbone.cls_token"), [0.5904900000000001, False]),
        ("segmentation", 0, ("parameters", "backbone.fpn1.1.weight"), [1.0, True]),
        ("segmentation", 1, ("parameters", "decode_head.conv_seg.weight"), [0.9, True]),
    ],
)
def test_a_change_is_noticed(part, case, path, value):
    alone = {**INFO, "classification": [], "segmentation": [], part: [INFO[part][case]]}
    assert failures(ARRAYS, changed_at(alone, part, 0, *path, value=value))
