"""Names that join both stacks of blocks and split the experts."""

import math

import jax
import numpy as np
import pytest

from vlmo_jax.checkpoints.param_names import Slot, flatten, group_names, named_parameters


def array(*shape):
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


def tree(lower=3, upper=2, experts=(2, 3)):
    stack = lambda layers, experts: {
        "norm": {"scale": array(layers, 4)},
        "experts": {"stacked": {"up": {"kernel": array(layers, experts, 4, 8)}}},
    }
    return {
        "transformer": {
            "upper": stack(upper, experts[1]),
            "lower": stack(lower, experts[0]),
            "norm": {"scale": array(4)},
        },
        "itc": {"logit_scale": array()},
    }


def test_stacks_are_joined_and_experts_named():
    names = named_parameters(flatten(tree()))
    assert {name: param.shape for name, param in names.items()} == {
        "transformer/blocks/norm/scale": (5, 4),
        "transformer/blocks/experts/image/up/kernel": (5, 4, 8),
        "transformer/blocks/experts/text/up/kernel": (5, 4, 8),
        "transformer/blocks/experts/vision_language/up/kernel": (2, 4, 8),
        "transformer/norm/scale": (4,),
        "itc/logit_scale": (),
    }
    path = ("experts", "stacked", "up", "kernel")
    assert names["transformer/blocks/experts/text/up/kernel"].slots == (
        Slot(("transformer", "lower", *path), 1, 0, 3, True),
        Slot(("transformer", "upper", *path), 1, 3, 5, True),
    )
    assert names["transformer/blocks/experts/vision_language/up/kernel"].slots == (
        Slot(("transformer", "upper", *path), 2, 0, 2, True),
    )


@pytest.mark.parametrize("experts", [(1, 1), (2, 2), (2, 3)])
def test_slots_hold_every_value_once(experts):
    flat = flatten(tree(experts=experts))
    rebuilt = {path: np.full_like(leaf, np.nan) for path, leaf in flat.items()}
    for name, param in named_parameters(flat).items():
        views = [slot.view(flat[slot.path]) for slot in param.slots]
        joined = np.concatenate(views)
        assert joined.shape == (param.shape if param.slots[0].stacked else (1, *param.shape)), name
        assert [slot.stop - slot.start for slot in param.slots] == [len(view) for view in views]
        for slot in param.slots:
            assert np.isnan(slot.view(rebuilt[slot.path])).all()
            slot.view(rebuilt[slot.path])[...] = joined[slot.start : slot.stop]
    jax.tree.map(np.testing.assert_array_equal, rebuilt, flat)


def test_the_split_does_not_change_names():
    names = lambda **sizes: {
        name: param.shape
        for name, param in named_parameters(flatten(tree(experts=(2, 2), **sizes))).items()
    }
    assert names(lower=4, upper=1) == names(lower=2, upper=3)


def test_names_are_grouped_by_module():
    names = [
        "transformer/blocks/experts/text/up/kernel",
        "transformer/blocks/experts/text/norm/bias",
        "transformer/blocks/norm/bias",
        "transformer/norm/bias",
        "transformer/relative_position_bias",
        "pooler/dense/bias",
        "modality_type",
    ]
    assert group_names(names) == {
        "modality_type": [],
        "pooler": ["dense/bias"],
        "transformer/blocks/experts/text": ["norm/bias", "up/kernel"],
        "transformer/blocks/norm": ["bias"],
        "transformer/norm": ["bias"],
        "transformer/relative_position_bias": [],
    }
