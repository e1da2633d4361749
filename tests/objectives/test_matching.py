import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlmo_jax.objectives.matching import matching_loss, sample_hard_negatives

B = 8
KEYS = jax.random.split(jax.random.key(0), 200)
draw_many = jax.jit(
    lambda logits, ignored=None: jax.vmap(lambda key: sample_hard_negatives(key, logits, ignored))(
        KEYS
    )
)


@pytest.fixture(scope="module")
def similarities():
    x = np.random.default_rng(0).normal(size=(2, B, 4)).astype(np.float32)
    image, text = x / np.linalg.norm(x, axis=-1, keepdims=True)
    text[:3] = image[:3]  # positives with similarity 1
    image[5], text[5] = 0.0, 0.0  # and rows of zeros: infinity times zero is NaN
    return jnp.asarray(image @ text.T)


@pytest.mark.parametrize("logit_scale", [-20, 0, 2.66, 10, 30, 80, 88, 89, 200, 1000])
def test_never_the_positive_whatever_the_temperature(similarities, logit_scale):
    logits = jnp.exp(jnp.float32(logit_scale)) * similarities
    drawn = np.asarray(draw_many(logits))
    assert drawn.dtype == np.int32 and drawn.min() >= 0 and drawn.max() < B
    assert (drawn != np.arange(B)).all()
    if 30 <= logit_scale < 89:  # so cold that the most similar one is always drawn
        hardest = np.where(np.eye(B, dtype=bool), -np.inf, np.asarray(similarities)).argmax(1)
        zeros = np.arange(B) == 5  # all others are equally similar
        np.testing.assert_array_equal(
            drawn[:, ~zeros], np.broadcast_to(hardest, drawn.shape)[:, ~zeros]
        )


def test_never_nan_even_of_nan_logits():
    drawn = np.asarray(draw_many(jnp.full((B, B), jnp.nan)))
    assert (drawn != np.arange(B)).all() and len(np.unique(drawn)) == B


@pytest.mark.parametrize("offset", [0.0, -(2.0**24), 2.0**24])
def test_draws_follow_the_softmax(offset):
    # Even numbers are exact in float32 beside the offset, where noise between 0 and 2 would be
    # lost.
    logits = 2 * np.random.default_rng(1).integers(0, 3, (B, B)).astype(np.float32)
    keys = jax.random.split(jax.random.key(1), 20_000)
    drawn = np.asarray(
        jax.jit(
            jax.vmap(
                lambda key: sample_hard_negatives(key, jnp.asarray(logits + np.float32(offset)))
            )
        )(keys)
    )
    weights = np.where(np.eye(B, dtype=bool), 0, np.exp(logits.astype(np.float64)))
    expected = weights / weights.sum(1, keepdims=True)
    found = (drawn[:, :, None] == np.arange(B)).mean(0)
    deviation = np.sqrt(expected * (1 - expected) / len(keys))
    assert (np.abs(found - expected) <= 5 * deviation + 1e-9).all()


def test_duplicates_are_no_negatives():
    ignored = np.eye(B, dtype=bool)
    ignored[1, :6] = True
    logits = jnp.where(ignored, 50.0, 0.0)
    drawn = np.asarray(draw_many(logits, jnp.asarray(ignored)))
    assert set(np.unique(drawn[:, 1])) == {6, 7}
    assert (drawn != np.arange(B)).all()


def test_a_row_of_duplicates_draws_among_all_but_its_own():
    ignored = np.eye(B, dtype=bool)
    ignored[2] = True
    drawn = np.asarray(draw_many(jnp.zeros((B, B)), jnp.asarray(ignored)))
    assert set(np.unique(drawn[:, 2])) == set(range(B)) - {2}
    # Also where the caller does not mark the diagonal.
    drawn = np.asarray(draw_many(jnp.zeros((B, B)), jnp.asarray(ignored & ~np.eye(B, dtype=bool))))
    assert set(np.unique(drawn[:, 2])) == set(range(B)) - {2}


def test_no_gradient_flows_through_the_draw(similarities):
    jax.make_jaxpr(jax.grad(lambda x: sample_hard_negatives(KEYS[0], x).astype(jnp.float32).sum()))(
        similarities
    )
    gradient = jax.grad(lambda x: (x[jnp.arange(B), sample_hard_negatives(KEYS[0], x)]).sum())(
        similarities
    )
    np.testing.assert_array_equal(np.asarray(gradient).sum(1), np.ones(B))


def test_matching_loss():
    logits = np.random.default_rng(2).normal(size=(5, 3, 2)).astype(np.float32)
    labels = np.array([1, 0, 0])
    expected = -np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))[
        :, np.arange(3), labels
    ]
    np.testing.assert_allclose(
        matching_loss(jnp.asarray(logits), jnp.broadcast_to(labels, (5, 3))), expected, rtol=1e-5
    )
