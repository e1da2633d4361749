"""The table of official names and the way back."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from configs import common, stage3
from tests.paths import DATA
from vlmo_jax.interop.places import fill_places
from vlmo_jax.interop.vlmo import from_official, official_places, to_official
from vlmo_jax.models.build import abstract_model
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.optimizer import match_rules

FIXTURES = DATA / "vlmo"
BASE = dict(depth=4, num_upper=2, num_heads=4, patch_size=8, position="relative", layer_scale=True)
PLUS = {**BASE, "position": "absolute", "layer_scale": False}


def weights(name):
    arrays = np.load(FIXTURES / f"{name}.npz")
    return {key.removeprefix("param/"): arrays[key] for key in arrays if key.startswith("param/")}


@pytest.mark.parametrize(
    "name, sizes, aside",
    [
        ("tiny_base_pretrain", BASE, ["text_embeddings.position_embeddings.weight"]),
        ("tiny_plus_pretrain", PLUS, []),
    ],
)
def test_way_there_and_back_is_exact(name, sizes, aside):
    tensors, places = weights(name), official_places(**sizes)
    params, unread = from_official(tensors, places, sizes["position"])
    assert sorted(unread) == aside
    back = to_official(params, places, unread)
    assert back.keys() == tensors.keys()
    assert all(
        back[key].dtype == value.dtype and back[key].tobytes() == value.tobytes()
        for key, value in tensors.items()
    )
    again, _ = from_official(back, places, sizes["position"])
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_index_buffers_are_kept_aside():
    buffers = {
        "relative_position_index": np.zeros(3),
        "text_embeddings.position_ids": np.arange(12),
    }
    _, unread = from_official(
        {**weights("tiny_base_pretrain"), **buffers}, official_places(**BASE), "relative"
    )
    assert set(unread) == {"text_embeddings.position_embeddings.weight", *buffers}


def test_missing_and_unexpected_tensors_are_named():
    tensors, places = weights("tiny_plus_pretrain"), official_places(**PLUS)
    lacking = {
        key: value for key, value in tensors.items() if key != "transformer.blocks.1.norm1.bias"
    }
    with pytest.raises(
        ValueError, match=r"missing \['transformer.blocks.1.norm1.bias'\]; unexpected none"
    ):
        from_official(lacking, places, "absolute")
    with pytest.raises(ValueError, match=r"missing none; unexpected \['nlvr2_classifier.bias'\]"):
        from_official({**tensors, "nlvr2_classifier.bias": np.zeros(2)}, places, "absolute")
    # Beside absolute positions the text positions are read, and beside relative ones they are not.
    without_positions = {
        key: value
        for key, value in tensors.items()
        if key != "text_embeddings.position_embeddings.weight"
    }
    with pytest.raises(ValueError, match="missing .*position_embeddings"):
        from_official(without_positions, places, "absolute")


def test_parameter_without_an_official_name_is_refused():
    places = official_places(**PLUS)
    params, _ = from_official(weights("tiny_plus_pretrain"), places, "absolute")
    with pytest.raises(ValueError, match=r"no official name for \['extra/kernel'\]"):
        to_official({**params, "extra": {"kernel": np.zeros(2)}}, places)


@pytest.mark.parametrize("size", ["tiny", "base", "base_plus", "large"])
def test_table_covers_every_recipe(size):
    config = stage3.get_config(size).model
    _, abstract = abstract_model(Recipe(stage3.get_config(size)).make_model)
    ours = {
        tuple(map(str, path)) for path in nnx.traversals.flatten_mapping(nnx.to_pure_dict(abstract))
    }
    places = official_places(
        depth=config.depth,
        num_upper=config.num_upper,
        num_heads=config.num_heads,
        patch_size=config.patch_size,
        position=config.position,
        layer_scale=bool(config.layer_scale),
    )
    assert ours == {place.path for place in places.values()}


def test_no_decay_rules_are_the_official_groups():
    info = json.loads((FIXTURES / "tiny_base_train10.json").read_text())
    groups = {
        name: group["weight_decay"] for group in info["param_groups"] for name in group["params"]
    }
    places = official_places(**BASE)
    params, _ = from_official(weights("tiny_base_pretrain"), places, "relative")
    ours = match_rules(
        params,
        [*((regex, 0.0) for regex in common.NO_DECAY), (".*", 0.01)],
        key="optimizer.no_decay",
    )
    flat = nnx.traversals.flatten_mapping(ours)
    assert {name: flat[place.path] for name, place in places.items()} == {
        name: groups[name] for name in places
    }
    assert set(groups) - set(places) == {"text_embeddings.position_embeddings.weight"}
    assert set(groups.values()) == {0.0, 0.01}


def test_places_stack_layers_and_experts():
    places = official_places(**BASE)
    tensors = {
        name: np.full(value.shape, number)
        for number, (name, value) in enumerate(weights("tiny_base_pretrain").items())
        if name in places
    }
    up = fill_places(tensors, places)["transformer"]["upper"]["experts"]["stacked"]["up"]["bias"]
    numbers = [
        [
            tensors[f"transformer.blocks.{layer}.mlp_{expert}.fc1.bias"][0]
            for expert in ("imag", "text", "vl")
        ]
        for layer in (2, 3)
    ]
    np.testing.assert_array_equal(up[:, :, 0], numbers)
