"""The tokenizer's task: codes and reconstructions, parts that sum to the whole, and training that
keeps its codes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.tasks.losses import mean_losses
from vlmo_jax.models.build import abstract_model
from vlmo_jax.models.dvae import DiscreteVAE
from vlmo_jax.objectives.discrete_vae import peak_signal_to_noise, squared_error
from vlmo_jax.tasks.visual_tokenizer import (
    VisualTokenizerTask,
    decode_codes,
    encode_codes,
    reconstruct,
)

CODES = 16


@functools.lru_cache
def structure():
    make = lambda rngs: DiscreteVAE(
        vocab_size=CODES, num_hidden=16, num_groups=2, blocks_per_group=1, rngs=rngs
    )
    return make, abstract_model(make)[0]


@pytest.fixture(scope="module")
def params():
    make, _ = structure()
    with nnx.use_eager_sharding(False):
        return jax.jit(lambda: nnx.to_pure_dict(nnx.state(make(nnx.Rngs(0)))))()


def drawings(count=8, size=8, seed=0):
    """Images of flat 4x4 squares in a few colours: much for codes of 2x2 places to tell apart."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (5, 3), np.uint8)
    squares = colours[rng.integers(0, 5, (count, size // 4, size // 4))]
    return squares.repeat(4, 1).repeat(4, 2)


@functools.partial(jax.jit, static_argnums=0)
def losses(task, params, part, batch, seed=0):
    return jax.value_and_grad(
        lambda p: mean_losses(task, nnx.merge(structure()[1], p), part, batch, seed), has_aux=True
    )(params)


def test_codes_are_the_likeliest_row_by_row(params):
    model, image = nnx.merge(structure()[1], params), jnp.asarray(drawings() / 255, jnp.float32)
    codes = encode_codes(model, image)
    assert codes.shape == (8, 16) and codes.dtype == jnp.int32
    np.testing.assert_array_equal(codes.reshape(8, 4, 4), jnp.argmax(model.logits(image), -1))
    assert len(np.unique(codes)) > 1
    image_again = reconstruct(model, image)
    assert image_again.shape == image.shape and image_again.min() >= 0 and image_again.max() <= 1
    np.testing.assert_allclose(image_again, decode_codes(model, codes.reshape(8, 4, 4)), atol=1e-6)


def test_reconstruction_in_training_is_that_of_the_codes(params):
    task, batch = VisualTokenizerTask(), {"image": drawings()}
    (_, metrics), _ = losses(task, params, batch, batch)
    image = batch["image"].astype(np.float32) / 255
    error = squared_error(image, reconstruct(nnx.merge(structure()[1], params), image))
    np.testing.assert_allclose(metrics["psnr"], peak_signal_to_noise(error).mean(), rtol=1e-4)
    # Mapped pixels have 0.8 of the range; unmapping cuts what lies outside it, so the error can
    # only be smaller.
    assert error.mean() <= metrics["reconstruction_loss"] / 0.64 * (1 + 1e-5)


def test_parts_of_the_batch_sum_to_the_whole(params):
    """Reconstruction is a mean over images; the entropies are of each part, so halves that are
    equal show the sharing.
    """
    task, half = VisualTokenizerTask(), drawings(4)
    batch = {"image": np.concatenate([half, half])}
    whole = losses(task, params, batch, batch)
    part = losses(task, params, {"image": half}, batch)
    for name, value in whole[0][1].items():
        np.testing.assert_allclose(2 * part[0][1][name], value, rtol=1e-5, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(2 * a, b, atol=1e-5), part[1], whole[1])


def test_every_parameter_learns_but_the_scales_that_squared_error_leaves_out(params):
    task, batch = VisualTokenizerTask(gumbel=True), {"image": drawings()}
    _, grads = losses(task, params, batch, batch)
    output = grads["decoder"]["output"]
    assert not output["kernel"][..., 3:].any() and not output["bias"][3:].any()
    assert all(leaf.any() for leaf in jax.tree.leaves(grads))


def test_gumbel_noise_draws_other_codes_and_follows_the_key(params):
    batch = {"image": drawings()}
    value = lambda gumbel, seed: float(
        losses(VisualTokenizerTask(gumbel=gumbel), params, batch, batch, seed)[0][0]
    )
    assert value(False, 0) == value(False, 1)
    assert value(True, 0) == value(True, 0) != value(True, 1)


def fit(params, task, steps=120):
    """Overfits eight images; returns PSNR and the number of codes in use of the argmax
    reconstruction.
    """
    optimizer, image = optax.adam(5e-3), drawings()

    @jax.jit
    def step(carry, number):
        params, state = carry
        _, grads = losses(task, params, {"image": image}, {"image": image}, number)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.jit(
        lambda p: jax.lax.scan(step, (p, optimizer.init(p)), jnp.arange(steps))
    )(params)
    model, image = nnx.merge(structure()[1], params), image.astype(np.float32) / 255
    psnr = peak_signal_to_noise(squared_error(image, reconstruct(model, image))).mean()
    return float(psnr), len(np.unique(encode_codes(model, image)))


def test_a_few_images_are_learned_with_many_codes(params):
    psnr, used = fit(params, VisualTokenizerTask())
    assert psnr > 32 and used >= 12, (psnr, used)  # without the entropies 27 dB and 4 codes
