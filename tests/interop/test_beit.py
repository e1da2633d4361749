"""BEiT's names and layouts: both ways, and what is refused."""

import jax
import numpy as np
import pytest

from tests.paths import DATA
from vlmo_jax.interop.beit import beit_places, from_beit, index_buffers, to_beit

FIXTURES = DATA / "siblings"
SHARED, OWN, OFFICIAL = NAMES = (
    "beit_shared_relpos",
    "beit_perlayer_relpos",
    "beit_official_abspos_perlayer",
)


def weights(name):
    return {
        key.removeprefix("param/"): value
        for key, value in np.load(FIXTURES / f"{name}.npz").items()
        if key.startswith("param/")
    }


@pytest.fixture
def official():
    return weights(OFFICIAL)


@pytest.mark.parametrize("name", NAMES)
def test_way_there_and_back_is_exact(name):
    tensors = weights(name)
    params, sizes, aside = from_beit(tensors)
    assert not aside
    back = to_beit(params, sizes, huggingface=name != OFFICIAL)
    assert back.keys() == tensors.keys()
    assert all(
        back[key].dtype == value.dtype and back[key].tobytes() == value.tobytes()
        for key, value in tensors.items()
    )


def test_sizes_are_found_from_shapes(official):
    _, sizes, _ = from_beit(official)
    assert sizes._asdict() == dict(
        image_size=32,
        patch_size=8,
        width=32,
        depth=3,
        num_upper=2,
        num_heads=4,
        mlp_dim=96,
        position="both",
        shared_table=False,
        layer_scale=True,
        vocab_size=64,
        mask_token=True,
        final_norm=True,
    )
    assert from_beit(weights(SHARED))[1]._replace(shared_table=False) == from_beit(weights(OWN))[1]


def test_both_kinds_of_names_hold_the_same_model():
    params, sizes, _ = from_beit(weights(SHARED))
    official = to_beit(params, sizes, index_buffers(sizes))
    assert official["blocks.2.attn.qkv.weight"].shape == (96, 32) and official[
        "rel_pos_bias.relative_position_bias_table"
    ].shape == (52, 4)
    again, same, aside = from_beit(official)
    assert same == sizes and list(aside) == ["rel_pos_bias.relative_position_index"]
    jax.tree.map(np.testing.assert_array_equal, again, params)
    named = to_beit(again, sizes, aside, huggingface=True)
    assert "beit.encoder.relative_position_bias.relative_position_index" in named
    jax.tree.map(np.testing.assert_array_equal, from_beit(named)[0], params)


def test_a_checkpoint_with_index_buffers_comes_back_whole(official):
    sizes = from_beit(official)[1]
    tensors = official | index_buffers(sizes)
    params, _, aside = from_beit(tensors)
    assert sorted(aside) == [f"blocks.{layer}.attn.relative_position_index" for layer in range(3)]
    assert to_beit(params, sizes, aside).keys() == tensors.keys()


@pytest.mark.parametrize("huggingface", [False, True])
def test_the_head_of_a_classifier_is_kept_aside(official, huggingface):
    head = {
        "head.weight": np.ones((5, 32)),
        "head.bias": np.ones(5),
        "fc_norm.weight": np.ones(32),
        "fc_norm.bias": np.ones(32),
    }
    gone = ("mask_token", "lm_head.weight", "lm_head.bias", "norm.weight", "norm.bias")
    trunk, sizes, _ = from_beit(
        {name: value for name, value in official.items() if name not in gone} | head
    )
    assert not sizes.mask_token and not sizes.final_norm and sizes.vocab_size is None
    named = to_beit(trunk, sizes, head, huggingface=huggingface)
    assert ("classifier.weight" if huggingface else "head.weight") in named
    params, _, aside = from_beit(named)
    assert sorted(aside) == sorted(head)
    assert (
        "mim_head" not in params
        and "mask_token" not in params["image_embedding"]
        and "norm" not in params["transformer"]
    )
    np.testing.assert_array_equal(
        params["transformer"]["upper"]["attention"]["qkv"],
        trunk["transformer"]["upper"]["attention"]["qkv"],
    )


def drop(name):
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def put(name, value):
    return lambda tensors: tensors | {name: np.asarray(value)}


@pytest.mark.parametrize(
    "fixture, change, message",
    [
        (
            OFFICIAL,
            drop("blocks.1.norm2.bias"),
            r"missing \['blocks.1.norm2.bias'\]; unexpected none",
        ),
        (OFFICIAL, drop("norm.weight"), r"missing \['norm.weight'\].*unexpected \['norm.bias'\]"),
        (OFFICIAL, put("blocks.0.adapter", 0), r"unexpected \['blocks.0.adapter'\]"),
        (
            OFFICIAL,
            put("blocks.2.mlp.fc1.bias", np.zeros(95)),
            r"blocks.2.mlp.fc1.bias: shape \(95,\), not \(96,\)",
        ),
        (
            OFFICIAL,
            put("blocks.1.attn.relative_position_bias_table", np.zeros((28, 4))),
            r"blocks.1.*\(28, 4\), not \(52, 4\)",
        ),
        (OFFICIAL, put("blocks.0.attn.relative_position_bias_table", np.zeros((50, 4))), "50 rows"),
        (OFFICIAL, put("pos_embed", np.zeros((1, 10, 32))), "different grids"),
        (OFFICIAL, put("rel_pos_bias.relative_position_bias_table", np.zeros((52, 4))), "not both"),
        (
            OFFICIAL,
            put("blocks.0.attn.relative_position_index", np.zeros((17, 17))),
            "not the index of a grid of 4",
        ),
        (
            OFFICIAL,
            drop("patch_embed.proj.weight"),
            r"no BEiT: missing \['patch_embed.proj.weight'\]",
        ),
        (
            OFFICIAL,
            put("patch_embed.proj.weight", np.zeros((32, 192))),
            r"proj.weight has shape \(32, 192\), which should have 4 axes",
        ),
        (
            OFFICIAL,
            put("blocks.0.attn.relative_position_bias_table", np.zeros(52)),
            r"table has shape \(52,\), which should have 2 axes",
        ),
        (
            OFFICIAL,
            put("pos_embed", np.zeros((17, 32))),
            r"pos_embed has shape \(17, 32\), which should have 3 axes",
        ),
        (
            OFFICIAL,
            put("lm_head.weight", 0),
            r"lm_head.weight has shape \(\), which should have 2 axes",
        ),
        (
            SHARED,
            drop("beit.encoder.relative_position_bias.relative_position_bias_table"),
            "no positions",
        ),
        (
            SHARED,
            drop("beit.encoder.layer.0.attention.attention.key.weight"),
            (
                r"missing \['beit.encoder.layer.0.attention.attention.key.weight',"
                r" .*query.*value.*unexpected \['beit.encoder.layer.0"
            ),
        ),
        (
            SHARED,
            put("beit.layernorm.weight", np.ones(32)),
            r"unexpected \['beit.layernorm.weight'\]",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_named_and_refused(fixture, change, message):
    with pytest.raises(ValueError, match=message):
        from_beit(change(weights(fixture)))


def test_a_parameter_without_a_name_is_refused(official):
    params, sizes, _ = from_beit(official)
    with pytest.raises(ValueError, match="text_embedding/word"):
        to_beit({**params, "text_embedding": {"word": np.zeros(3)}}, sizes)


def test_no_two_tensors_share_a_place(official):
    places = beit_places(from_beit(official)[1])
    assert (
        len({(place.path, place.at) for place in places.values()}) == len(places) == len(official)
    )
