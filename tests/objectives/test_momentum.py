"""Contrast against momentum vectors and queues is the plain formula; queues turn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlmo_jax.objectives import momentum

B, Q, D = 3, 5, 4


def vectors(seed, rows):
    x = np.random.default_rng(seed).normal(size=(rows, D)).astype(np.float32)
    return jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def logits():
    return momentum.similarities(vectors(0, B), vectors(1, B), vectors(2, Q), jnp.float32(0.07))


def test_similarities_are_those_of_the_batch_and_of_the_queue(logits):
    every = np.concatenate([vectors(1, B), vectors(2, Q)])
    found = np.concatenate(logits, axis=1)
    np.testing.assert_allclose(found, vectors(0, B) @ every.T / 0.07, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_the_loss_is_a_cross_entropy_with_soft_targets(logits, alpha):
    of_towers = momentum.similarities(
        vectors(3, B), vectors(1, B), vectors(2, Q), jnp.float32(0.07)
    )
    targets = momentum.distilled_targets(of_towers, alpha)
    soft = jax.nn.softmax(jnp.concatenate(of_towers, axis=1))
    expected = alpha * soft + (1 - alpha) * jnp.eye(B, B + Q)
    np.testing.assert_allclose(np.concatenate(targets, axis=1), expected, atol=1e-6)
    log_probabilities = jax.nn.log_softmax(jnp.concatenate(logits, axis=1))
    loss = -(log_probabilities * expected).sum(1).mean()
    np.testing.assert_allclose(momentum.soft_contrast(logits, targets), loss, rtol=1e-5)


def test_extreme_similarities_stay_finite():
    far = momentum.Similarities(jnp.full((2, 2), 1000.0), jnp.full((2, 3), -1000.0))
    grads = jax.grad(lambda x: momentum.soft_contrast(x, momentum.distilled_targets(far, 0.4)))(far)
    assert all(np.isfinite(leaf).all() for leaf in grads)


@pytest.mark.parametrize("pointer, places", [(0, [0, 1, 2]), (2, [2, 3, 4]), (4, [4, 0, 1])])
def test_the_newest_stand_from_the_pointer_on(pointer, places):
    queue, newest = np.arange(Q, dtype=np.float32), np.asarray([10.0, 11.0, 12.0], np.float32)
    expected = queue.copy()
    expected[places] = newest
    found = momentum.enqueue(jnp.asarray(queue[:, None]), jnp.asarray(newest[:, None]), pointer)
    np.testing.assert_array_equal(found[:, 0], expected)
