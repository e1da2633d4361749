"""Layer-wise decay: BEiT's factors, one a layer of a stacked array."""

import json
import re

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from configs import common
from tests import tiny
from tests.paths import DATA
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.interop.beit import BeitSizes, beit_places
from vlmo_jax.models.build import abstract_params, model_maker
from vlmo_jax.training.layer_decay import layer_factors
from vlmo_jax.training.optimizer import adamw, learning_rate_schedule, make_optimizer, match_rules

CASES = json.loads((DATA / "downstream" / "layer_decay.json").read_text())["classification"]
# With these fields the first update of AdamW is nearly the rate, of the gradient's sign.
FIELDS = dict(
    common.optimizer(learning_rate=0.1, warmup_steps=0),
    total_steps=10,
    schedule="constant",
    epsilon=1e-12,
    weight_decay=0.0,
    no_decay=(),
)


def beit_sizes(arguments):
    positions = arguments["use_abs_pos_emb"]
    return BeitSizes(
        image_size=16,
        patch_size=8,
        width=arguments["dim"],
        depth=arguments["depth"],
        num_upper=2 if arguments["depth"] > 2 else 1,
        num_heads=arguments["heads"],
        mlp_dim=4 * arguments["dim"],
        position="both" if positions else "relative",
        shared_table=arguments["shared_table"],
        layer_scale=True,
        vocab_size=5,
        mask_token=True,
        final_norm=True,
    )


def official_factors(case):
    """Official name -> factor; what the fixture does not name stands behind the blocks, but for the
    mask token.
    """
    factors = {name: factor for name, (factor, _) in case.get("parameters", {}).items()}
    for layer, factor in enumerate(case.get("block_factor", ())):
        for name in case["block_parameters_decayed"]:
            factors[f"blocks.{layer}.{name}"] = factor
    factors.update({name: factor for name, (factor, _) in case.get("others", {}).items()})
    return factors


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_factors_are_those_of_beit(case):
    sizes = beit_sizes(case["arguments"])
    params = abstract_params(model_maker({"kind": "beit", **sizes.model_fields()}))
    factors = layer_factors(params, case["arguments"]["layer_decay"])
    flat, shapes = (nnx.traversals.flatten_mapping(tree) for tree in (factors, params))
    official, places = official_factors(case), beit_places(sizes)
    compared = set(official) & set(places)
    assert all(name.startswith(("head.", "fc_norm.")) for name in set(official) - compared)
    assert len(compared) > 16 * sizes.depth
    for name in compared:
        path, index, _ = places[name]
        whole = np.broadcast_to(flat[path], shapes[path].shape)
        np.testing.assert_allclose(whole[index], official[name], rtol=1e-6, err_msg=name)
    for name in ("norm.weight", "lm_head.weight", "lm_head.bias"):
        assert flat[places[name].path] == 1
    assert flat["image_embedding", "mask_token"] == flat["image_embedding", "class_token"]


def some_of_vlmo():
    """A few parameters of each part."""
    part = r"transformer/(.*(up/kernel|norm/.*|qkv)|relative.*)|modality_type|.*/(patch|word|bias)"
    return nnx.traversals.unflatten_mapping(
        {
            path: leaf
            for path, leaf in nnx.traversals.flatten_mapping(tiny.params()).items()
            if re.fullmatch(part, "/".join(path))
        }
    )


def first_moves(params, **fields):
    """How far the first update moves each value, by the gradient one."""
    made = make_optimizer(params, **{**FIELDS, **fields})
    optimizer, partition = made.transform, made.partition
    trained = params if partition is None else partition.trainable(params)
    gradients = jax.tree.map(np.ones_like, trained)
    updates, _ = optimizer.update(gradients, optimizer.init(trained), trained)
    return {
        "/".join(map(str, path)): np.asarray(leaf)
        for path, leaf in nnx.traversals.flatten_mapping(updates).items()
    }


def test_each_layer_moves_by_its_factor_and_rates_by_name_hold_on_top():
    """Of VLMo, whose depth is 3: two layers below, one above, experts beside each other."""
    rates = ((r"transformer/.*/experts/.*|mlm_head/.*", 5.0),)
    moves = first_moves(some_of_vlmo(), layer_decay=0.5, rate_multipliers=rates)
    expected = {
        "transformer/lower/experts/stacked/up/kernel": [[5 / 8], [5 / 4]],
        "transformer/upper/experts/stacked/up/kernel": [[5 / 2]],
        "transformer/lower/attention/qkv": [1 / 8, 1 / 4],
        "transformer/upper/norm/bias": [1 / 2],
        "transformer/relative_position_bias": [1 / 8, 1 / 4, 1 / 2],
        "transformer/norm/scale": 1,
        "mlm_head/decoder/bias": 5,
        "text_embedding/word": 1 / 16,
        "image_embedding/patch": 1 / 16,
        "modality_type": 1 / 16,
    }
    for name, factors in expected.items():
        factors = np.asarray(factors)
        behind = tuple(range(factors.ndim, moves[name].ndim))
        wanted = np.broadcast_to(-0.1 * np.expand_dims(factors, behind), moves[name].shape)
        np.testing.assert_allclose(moves[name], wanted, rtol=1e-5, err_msg=name)


def test_of_a_stack_that_is_partly_frozen_the_rest_moves_by_its_factors():
    frozen = (r"transformer/(lower|upper)/experts/image/.*", r"transformer/lower/norm/.*")
    some = first_moves(some_of_vlmo(), layer_decay=0.5, frozen=frozen)
    everything = first_moves(some_of_vlmo(), layer_decay=0.5)
    stack = "transformer/lower/experts/stacked/up/kernel"
    assert some[stack].shape[1] == 1 and "transformer/lower/norm/bias" not in some
    np.testing.assert_array_equal(some[stack], everything[stack][:, 1:])
    np.testing.assert_allclose(some[stack][:, 0, 0, 0], [-0.1 / 8, -0.1 / 4], rtol=1e-5)


def test_without_layer_decay_the_update_is_what_it_was():
    params = tiny.params()
    optimizer = make_optimizer(params, **{**FIELDS, "layer_decay": 1.0}).transform
    plain = adamw(
        learning_rate_schedule("constant", peak=0.1, warmup_steps=0, total_steps=10),
        betas=FIELDS["betas"],
        epsilon=FIELDS["epsilon"],
        decay=match_rules(params, [(".*", 0.0)], key="a"),
        multiplier=match_rules(params, [(".*", 1.0)], key="b"),
    )
    if FIELDS["clip_norm"]:
        plain = optax.chain(optax.clip_by_global_norm(FIELDS["clip_norm"]), plain)
    found, expected = (
        str(jax.make_jaxpr(one.update)(params, one.init(params), params))
        for one in (optimizer, plain)
    )
    assert found == expected


@pytest.mark.parametrize(
    "params, value, message",
    [
        (None, 0.0, "config.optimizer.layer_decay=0.0 must be more than 0 and at most 1"),
        (None, 1.5, "config.optimizer.layer_decay=1.5 must be more than 0 and at most 1"),
        ({"head": {"bias": np.zeros(3)}}, 0.5, "needs a model with one tower of blocks.*has none"),
        (
            {name: {"blocks": {"bias": np.zeros((2, 3))}} for name in ("image", "text")},
            0.5,
            "needs a model with one tower of blocks; this one has image, text; use 1.0",
        ),
    ],
)
def test_refusals(params, value, message):
    with pytest.raises(ConfigError, match=message):
        make_optimizer(params or tiny.params(), **{**FIELDS, "layer_decay": value})
