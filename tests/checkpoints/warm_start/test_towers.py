"""Warm starts of models with several towers of blocks, by the same rules on names."""

import jax
import numpy as np
import pytest

from tests.checkpoints.warm_start import models
from vlmo_jax.checkpoints.store import save_params
from vlmo_jax.checkpoints.warm_start.load import warm_start

ON_ONE_DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])
COPY = [(".*", "copy")]


def layers(*numbers):
    """A stack of made-up blocks; every value says its layer."""
    numbers = np.asarray(numbers, np.float32)
    kernel = np.broadcast_to(numbers[:, None, None, None], (len(numbers), 2, 3, 4))
    return {
        "norm": {"scale": np.repeat(numbers[:, None], 3, axis=1)},
        "experts": {"stacked": {"up": {"kernel": kernel + np.zeros_like(kernel)}}},
    }


def towers(lower, upper):
    """An image tower whose five blocks lie in two stacks, and a text tower with one stack."""
    norm = {"norm": {"scale": np.full(3, 7, np.float32)}}
    return {
        "image_encoder": {"lower": layers(*lower), "upper": layers(*upper), **norm},
        "text_encoder": {"blocks": layers(10, 11), **norm},
    }


def start(workdir, params, rules=COPY, fresh=(), initialise=models.never):
    wanted = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=ON_ONE_DEVICE), params
    )
    model = {"width": 3}
    return warm_start(workdir, wanted, initialise, rules=rules, fresh=fresh, model=model)


@pytest.fixture
def saved(tmp_path):
    meta = {"config": {"model": {"kind": "made_up", "width": 3}}}
    save_params(tmp_path, towers((1, 2, 3), (4, 5)), meta)
    return tmp_path


def test_each_tower_may_be_split_elsewhere(saved):
    wanted = towers((1,), (2, 3, 4, 5))
    wanted["text_encoder"] = {**layers_in_two(wanted["text_encoder"])}
    params, report = start(saved, wanted)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), wanted)
    assert len(report.matched) == 8
    assert "image_encoder/norm (1), text_encoder/blocks/experts/image (1)" in report.summary()[1]


def layers_in_two(tower):
    stack = tower["blocks"]
    cut = lambda part: jax.tree.map(lambda x: x[part], stack)
    return {"norm": tower["norm"], "lower": cut(slice(1)), "upper": cut(slice(1, None))}


def test_rules_tell_towers_apart(saved):
    """The upper blocks of one tower start from the blocks of the other."""
    wanted = {"fusion_encoder": {"blocks": layers(10, 11)}}
    rules = [
        ("image_encoder/.*|.*/norm/scale", "skip"),
        ("text_encoder/(.*)", "copy", r"fusion_encoder/\1"),
    ]
    fresh = ["fusion_encoder/blocks/norm/.*"]
    seed = {"fusion_encoder": {"blocks": layers(20, 21)}}
    params, report = start(
        saved, wanted, rules, fresh, lambda: jax.tree.map(jax.numpy.asarray, seed)
    )
    blocks = jax.device_get(params)["fusion_encoder"]["blocks"]
    np.testing.assert_array_equal(
        blocks["experts"]["stacked"]["up"]["kernel"][:, 0, 0, 0], [10, 11]
    )
    np.testing.assert_array_equal(blocks["norm"]["scale"][:, 0], [20, 21])
    assert report.fresh == ("fusion_encoder/blocks/norm/scale",)


def test_a_message_names_modules_within_a_tower(saved):
    """Not the whole tower, which would leave out its blocks as well; and it tells of no stages."""
    wanted = towers((1, 2, 3), (4, 5))
    del wanted["image_encoder"]["norm"]
    with pytest.raises(
        ValueError, match=r"to leave them out: \('image_encoder/norm/\.\*', \"skip\"\)"
    ) as error:
        start(saved, wanted)
    assert "stage" not in str(error.value)
