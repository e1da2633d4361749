import jax
import jax.numpy as jnp
import numpy as np

from vlmo_jax.objectives.masked_language import (
    masked_language_accuracy,
    masked_language_loss,
    soft_language_loss,
)

LABELS = np.array([[3, 0, -1, -1], [-1, 6, -1, 2]], np.int32)
LOGITS = np.random.default_rng(0).normal(size=(2, 4, 7)).astype(np.float32)


def test_loss_is_the_cross_entropy_at_used_places():
    log_probs = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    expected = [
        [
            -log_probs[row, place, LABELS[row, place]] if LABELS[row, place] >= 0 else 0
            for place in range(4)
        ]
        for row in range(2)
    ]
    np.testing.assert_allclose(
        masked_language_loss(jnp.asarray(LOGITS), jnp.asarray(LABELS)), expected, rtol=1e-5
    )


def test_unused_places_are_not_read():
    changed = np.where((LABELS < 0)[..., None], 1e9, LOGITS).astype(np.float32)
    loss = lambda logits: masked_language_loss(logits, jnp.asarray(LABELS)).sum()
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(changed))
    np.testing.assert_allclose(value, loss(jnp.asarray(LOGITS)), rtol=1e-6)
    assert not np.any(np.asarray(gradient)[LABELS < 0]) and np.any(
        np.asarray(gradient)[LABELS >= 0]
    )


def test_extreme_logits_stay_finite():
    assert np.isfinite(masked_language_loss(jnp.asarray([[1e30, -1e30]]), jnp.asarray([1]))).all()


def test_accuracy_counts_used_places_only():
    logits = np.zeros((2, 4, 7), np.float32)
    logits[0, 0, 3], logits[0, 1, 5], logits[1, 1, 6] = 1, 1, 1
    found = masked_language_accuracy(jnp.asarray(logits), jnp.asarray(LABELS))
    np.testing.assert_array_equal(found, [[1, 0, 0, 0], [0, 1, 0, 0]])


def test_soft_labels_count_where_a_place_is_used():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4)), jnp.float32)
    labels = jnp.asarray([[1, -1, 2], [0, 0, -1]])
    losses = soft_language_loss(logits, logits, labels)
    entropy = -(jax.nn.softmax(logits) * jax.nn.log_softmax(logits)).sum(-1)
    np.testing.assert_allclose(losses, np.where(labels < 0, 0, entropy), rtol=1e-6)
