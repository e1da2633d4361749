"""Names that join both stacks of blocks and split the experts."""

import math

import jax
import numpy as np
import pytest

from vlmo_jax.checkpoints.param_names import (
    Slot,
    flatten,
    group_names,
    named_parameters,
    tower_depths,
    towers_of,
)


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


def towers():
    """Two towers, one of two stacks and one of a single stack, and a copy of the first."""
    layer = lambda layers: {"norm": {"scale": array(layers, 4)}}
    image = {
        "patch": array(3, 4),
        "transformer": {"upper": layer(1), "lower": layer(2), "norm": {"scale": array(4)}},
    }
    text = {"blocks": {**layer(4), "experts": {"stacked": {"up": {"bias": array(4, 2, 8)}}}}}
    return {"momentum": {"image_encoder": image}, "image_encoder": image, "text_encoder": text}


def test_stacks_are_found_wherever_they_stand():
    names = named_parameters(flatten(towers()))
    assert {name: param.shape for name, param in names.items()} == {
        "image_encoder/patch": (3, 4),
        "image_encoder/transformer/blocks/norm/scale": (3, 4),
        "image_encoder/transformer/norm/scale": (4,),
        "momentum/image_encoder/patch": (3, 4),
        "momentum/image_encoder/transformer/blocks/norm/scale": (3, 4),
        "momentum/image_encoder/transformer/norm/scale": (4,),
        "text_encoder/blocks/norm/scale": (4, 4),
        "text_encoder/blocks/experts/image/up/bias": (4, 8),
        "text_encoder/blocks/experts/text/up/bias": (4, 8),
    }
    scale = ("image_encoder", "transformer", "lower", "norm", "scale")
    assert names["image_encoder/transformer/blocks/norm/scale"].slots == (
        Slot(scale, None, 0, 2, True),
        Slot((*scale[:2], "upper", *scale[3:]), None, 2, 3, True),
    )
    stacked = ("text_encoder", "blocks", "experts", "stacked", "up", "bias")
    assert names["text_encoder/blocks/experts/text/up/bias"].slots == (
        Slot(stacked, 1, 0, 4, True),
    )


def test_towers_have_depths():
    transformer = ("image_encoder", "transformer")
    expected = {transformer: 3, ("momentum", *transformer): 3, ("text_encoder",): 4}
    assert tower_depths(flatten(towers())) == expected
    assert towers_of(named_parameters(flatten(towers()))) == set(expected)
    assert tower_depths(flatten(tree())) == {("transformer",): 5}


def test_a_module_of_blocks_that_are_not_alike_is_no_stack():
    """Such as the discrete VAE's."""
    blocks = {"group_1": {"kernel": array(3, 3, 8, 8), "bias": array(8)}}
    leaves = flatten({"encoder": {"blocks": blocks}})
    assert tower_depths(leaves) == {}
    slots = {name: param.slots for name, param in named_parameters(leaves).items()}
    path = ("encoder", "blocks", "group_1", "bias")
    assert slots["/".join(path)] == (Slot(path, None, 0, 1, False),)


def test_names_of_towers_are_grouped_by_module():
    names = named_parameters(flatten(towers()))
    assert group_names(names, towers_of(names)) == {
        "image_encoder": ["patch"],
        "image_encoder/transformer/blocks/norm": ["scale"],
        "image_encoder/transformer/norm": ["scale"],
        "momentum": ["image_encoder/patch"],
        "momentum/image_encoder/transformer/blocks/norm": ["scale"],
        "momentum/image_encoder/transformer/norm": ["scale"],
        "text_encoder/blocks/experts/image": ["up/bias"],
        "text_encoder/blocks/experts/text": ["up/bias"],
        "text_encoder/blocks/norm": ["scale"],
    }
