"""Codes that let gradients through, entropies, perplexity and PSNR."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlmo_jax.objectives import discrete_vae as objectives


@pytest.fixture(scope="module")
def logits():
    return jnp.asarray(np.random.default_rng(0).normal(0, 1.5, (3, 2, 4, 5)).astype(np.float32))


def test_chosen_codes_are_one_hot_and_have_the_gradient_of_a_softmax(logits):
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=logits.shape).astype(np.float32))
    chosen = objectives.choose_codes(logits, 2.0)
    np.testing.assert_allclose(chosen, np.eye(5)[np.argmax(logits, -1)], atol=1e-6)
    ours = jax.grad(lambda x: jnp.vdot(objectives.choose_codes(x, 2.0), cotangent))(logits)
    theirs = jax.grad(lambda x: jnp.vdot(jax.nn.softmax(x / 2.0), cotangent))(logits)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_drawn_codes_follow_the_distribution(logits):
    draw = lambda key: objectives.choose_codes(logits[:1], 1.0, key)
    mean = jax.vmap(draw)(jax.random.split(jax.random.key(0), 4000)).mean(0)
    np.testing.assert_allclose(mean, jax.nn.softmax(logits[:1]), atol=0.04)


def test_entropies_of_distributions_written_down():
    large = 60.0
    sure_and_even = large * jnp.eye(4)[None, None]  # four places, each certain of a code of its own
    np.testing.assert_allclose(objectives.code_entropies(sure_and_even), (np.log(4), 0), atol=1e-6)
    collapsed = large * jnp.eye(4)[jnp.zeros((1, 2, 2), int)]
    np.testing.assert_allclose(objectives.code_entropies(collapsed), (0, 0), atol=1e-6)
    np.testing.assert_allclose(
        objectives.code_entropies(jnp.zeros((2, 3, 3, 4))), (np.log(4), np.log(4)), rtol=1e-6
    )


def test_gradients_of_entropies_are_finite_where_codes_have_died():
    logits = 200.0 * jnp.eye(4)[jnp.zeros((1, 2, 2), int)]
    entropy = lambda x, number: objectives.code_entropies(x)[number]
    for number in range(2):
        assert jnp.isfinite(jax.grad(entropy)(logits, number)).all()


def test_counts_and_perplexity():
    codes = jnp.asarray([[0, 3, 3], [3, 0, 0]])
    counts = objectives.code_counts(codes, 5)
    np.testing.assert_array_equal(counts, [3, 0, 0, 3, 0])
    np.testing.assert_allclose(objectives.perplexity(counts), 2.0, rtol=1e-6)
    np.testing.assert_allclose(objectives.perplexity(jnp.asarray([7, 0])), 1.0, rtol=1e-6)


def test_psnr():
    image = jnp.zeros((2, 4, 4, 3))
    error = objectives.squared_error(image, image.at[1].add(0.1))
    np.testing.assert_allclose(objectives.peak_signal_to_noise(error), [100.0, 20.0], rtol=1e-5)
