"""BEiT: what it shares with VLMo, where it computes, what it trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.models.beit import BEiT
from vlmo_jax.models.vlmo import VLMo

SIZES = dict(
    image_size=16,
    patch_size=4,
    vocab_size=11,
    width=16,
    depth=3,
    num_heads=2,
    mlp_dim=32,
    num_upper=1,
    layer_scale=0.1,
)
IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
POSITIONS = jnp.asarray([[0, 3, 7, 15], [5, 6, -1, -1]], jnp.int32)


@pytest.fixture(scope="module", autouse=True)
def without_a_mesh():
    with nnx.use_eager_sharding(False):
        yield


def make(**fields):
    """A BEiT with large random parameters, so that every part shows in its outputs."""
    graphdef, params = nnx.split(BEiT(**{**SIZES, **fields}, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(1)
    return nnx.merge(
        graphdef,
        jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.3, p.shape), jnp.float32), params),
    )


def hidden_patches(positions):
    hidden = np.zeros((len(positions), 16), bool)
    for row, places in enumerate(np.asarray(positions)):
        hidden[row, places[places >= 0]] = True
    return hidden


@pytest.mark.parametrize(
    "fields", [dict(position="both"), dict(position="relative", shared_table=True)], ids=str
)
def test_logits_at_masked_patches_are_those_of_the_full_computation(fields):
    model = make(**fields)
    full = jax.jit(
        lambda image: model.mim_head(model.encode_image(image, hidden=hidden_patches(POSITIONS)))
    )(IMAGE)[:, 1:]
    found = jax.jit(model.predict_masked)(IMAGE, POSITIONS)
    assert found.shape == (2, 4, 11) and found.dtype == jnp.float32
    used = np.asarray(POSITIONS) >= 0
    np.testing.assert_allclose(
        found[used],
        np.take_along_axis(np.asarray(full), np.maximum(POSITIONS, 0)[..., None], 1)[used],
        atol=2e-5,
    )
    assert np.abs(np.diff(np.asarray(full), axis=1)).max() > 0.1


def test_hidden_patches_cannot_be_seen_and_keep_their_place():
    model = make(position="absolute")
    hidden = hidden_patches(POSITIONS)
    blocks = np.kron(hidden.reshape(2, 4, 4), np.ones((4, 4)))[..., None] > 0
    changed = jnp.where(blocks, IMAGE + 5.0, IMAGE)
    predict, encode = jax.jit(model.predict_masked), jax.jit(model.encode_image)
    np.testing.assert_array_equal(predict(IMAGE, POSITIONS), predict(changed, POSITIONS))
    assert np.abs(encode(IMAGE) - encode(changed)).max() > 0.1
    embedded = model.image_embedding(IMAGE, hidden)[:, 1:]
    place = model.image_embedding.position[...]
    np.testing.assert_allclose(
        embedded[0, 3], model.image_embedding.mask_token[...] + place[4], atol=1e-6
    )
    np.testing.assert_allclose(
        embedded[1, 6], model.image_embedding.mask_token[...] + place[7], atol=1e-6
    )


def test_every_parameter_is_trained_and_none_is_for_text():
    graphdef, params = nnx.split(make(position="both"))
    grads = jax.jit(
        jax.grad(lambda p: jnp.sin(nnx.merge(graphdef, p).predict_masked(IMAGE, POSITIONS)).sum())
    )(params)
    flat = {
        "/".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(grads)
    }
    assert not [name for name, grad in flat.items() if not grad.any()]
    assert flat["transformer/lower/experts/stacked/up/kernel"].shape == (2, 1, 16, 32)
    assert not [name for name in flat if "text" in name or "modality" in name]


def test_shared_parts_lie_where_vlmo_has_them():
    shapes = lambda model: {
        "/".join(map(str, path)): leaf.shape for path, leaf in nnx.to_flat_state(nnx.state(model))
    }
    common = {key: value for key, value in SIZES.items() if key != "vocab_size"}
    vlmo = shapes(
        VLMo(
            **common,
            vocab_size=9,
            text_length=4,
            text_positions=6,
            position="relative",
            rngs=nnx.Rngs(0),
        )
    )
    beit = shapes(BEiT(**SIZES, rngs=nnx.Rngs(0)))
    own = {"image_embedding/mask_token", "mim_head/kernel", "mim_head/bias"}
    assert set(beit) - set(vlmo) == own
    for name in set(beit) - own:
        if "/experts/" in name:
            assert beit[name][0::2] == vlmo[name][0::2] and beit[name][1] == 1
        elif name == "transformer/relative_position_bias":
            assert beit[name] == (3, 52, 2) and vlmo[name] == (3, 52 + 2 + 12, 2)
        else:
            assert beit[name] == vlmo[name]


def test_what_a_block_adds_shrinks_with_its_depth():
    model = BEiT(**{**SIZES, "depth": 4, "num_upper": 2, "width": 32}, rngs=nnx.Rngs(0))
    for matrix in (
        lambda stack: stack.attention.out,
        lambda stack: stack.experts.stacked.down.kernel,
    ):
        deviations = [
            np.asarray(block).std()
            for stack in (model.transformer.lower, model.transformer.upper)
            for block in matrix(stack)[...]
        ]
        np.testing.assert_allclose(
            np.array(deviations) / deviations[0], 1 / np.sqrt([1, 2, 3, 4]), rtol=0.1
        )
    assert (
        0.8
        < np.asarray(model.transformer.upper.attention.qkv).std()
        / np.asarray(model.transformer.lower.attention.qkv).std()
        < 1.2
    )
