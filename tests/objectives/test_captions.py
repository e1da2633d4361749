"""Which tokens of captions are hidden, and their losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlmo_jax.objectives.captions import (
    hide_tokens,
    leave_out_worst,
    next_tokens,
    num_hidden,
    smoothed_losses,
)

LENGTHS = np.array([2, 5, 8, 3, 1])
MASK = jnp.asarray(np.arange(8) < LENGTHS[:, None])
IDS = jnp.asarray(np.where(MASK, np.arange(40).reshape(5, 8) + 5, 0), jnp.int32)


def test_a_share_of_the_tokens_is_hidden_and_never_the_first():
    np.testing.assert_array_equal(num_hidden(MASK, 0.7), [1, 3, 5, 1, 0])
    np.testing.assert_array_equal(num_hidden(MASK, 0.01), [1, 1, 1, 1, 0])
    np.testing.assert_array_equal(num_hidden(MASK, 1.0), [1, 4, 7, 2, 0])
    ever, kinds = np.zeros(MASK.shape, bool), np.zeros(3)
    hide = jax.jit(lambda key: hide_tokens(IDS, MASK, key, rate=0.7, mask_id=4, vocab_size=1000))
    for seed in range(60):
        shown, labels = hide(jax.random.key(seed))
        hidden = np.asarray(labels) >= 0
        np.testing.assert_array_equal(hidden.sum(1), [1, 3, 5, 1, 0])
        np.testing.assert_array_equal(labels[hidden], IDS[hidden])
        np.testing.assert_array_equal(shown[~hidden], IDS[~hidden])
        ever |= hidden
        kinds += [np.sum(shown[hidden] == 4), np.sum(shown[hidden] == IDS[hidden]), hidden.sum()]
    np.testing.assert_array_equal(ever, MASK.at[:, 0].set(False))  # the end is hidden, too
    assert abs(kinds[0] / kinds[2] - 0.8) < 0.05 and abs(kinds[1] / kinds[2] - 0.1) < 0.05


def test_next_tokens():
    expected = np.where(np.arange(8) < LENGTHS[:, None] - 1, np.roll(IDS, -1, axis=1), -1)
    np.testing.assert_array_equal(next_tokens(IDS, MASK), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_divergences_from_smoothed_labels(smoothing):
    logits = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    labels = np.array([2, -1, 6])
    log_probs = np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    expected = np.zeros(3)
    for row in (0, 2):
        wanted = np.full(7, smoothing / 6)
        wanted[labels[row]] = 1 - smoothing
        used = wanted > 0
        expected[row] = (wanted[used] * (np.log(wanted[used]) - log_probs[row][used])).sum()
    np.testing.assert_allclose(smoothed_losses(logits, labels, smoothing), expected, atol=1e-5)


def test_the_worst_losses_are_left_out():
    losses = jnp.asarray([[5.0, 1.0, 0.0], [2.0, 4.0, 3.0]])
    used = jnp.asarray([[True, True, False], [True, True, True]])
    np.testing.assert_array_equal(leave_out_worst(losses, used, 0.0), losses)
    np.testing.assert_array_equal(leave_out_worst(losses, used, 0.2), [[0, 1, 0], [2, 4, 3]])
    np.testing.assert_array_equal(leave_out_worst(losses, used, 0.5), [[0, 1, 0], [2, 0, 0]])
