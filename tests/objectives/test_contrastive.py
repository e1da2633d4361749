import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlmo_jax.objectives import contrastive

B, D = 6, 5


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(2, B, D))
    normalise = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    return normalise(image), normalise(text)


def loss(image, text, scale, ignored=None):
    logits = contrastive.contrastive_logits(
        jnp.asarray(image, jnp.float32), jnp.asarray(text, jnp.float32), scale
    )
    return contrastive.contrastive_loss(*logits, ignored)


def by_formula(image, text, scale, ignored=None):
    """The mean of both cross-entropies in float64, by loops."""
    similarities, total = np.exp(scale) * image @ text.T, 0.0
    for logits, out in (
        (similarities, ignored),
        (similarities.T, None if ignored is None else ignored.T),
    ):
        for row in range(len(logits)):
            columns = [c for c in range(len(logits)) if c == row or out is None or not out[row, c]]
            total -= logits[row, row] - np.log(np.exp(logits[row, columns]).sum())
    return total / (2 * len(similarities))


def test_loss_equals_the_formula(features):
    np.testing.assert_allclose(
        loss(*features, np.log(1 / 0.07)), by_formula(*features, np.log(1 / 0.07)), rtol=1e-5
    )


def test_loss_leaves_duplicates_out(features):
    image_id, text_id = np.array([1, 2, 3, 1, 5, 6]), np.array([10, 11, 12, 13, 11, 15])
    ignored = np.asarray(contrastive.duplicate_pairs(image_id, text_id))
    expected = np.eye(B, dtype=bool)
    expected[[0, 3, 1, 4], [3, 0, 4, 1]] = True
    np.testing.assert_array_equal(ignored, expected)
    found = loss(*features, 2.0, ignored)
    np.testing.assert_allclose(found, by_formula(*features, 2.0, ignored), rtol=1e-5)
    assert abs(found - loss(*features, 2.0)) > 0.01


def test_loss_of_a_batch_of_one_caption_is_zero_not_nan(features):
    everything = np.ones((B, B), bool)
    value, gradient = jax.value_and_grad(lambda image: loss(image, features[1], 2.0, everything))(
        jnp.asarray(features[0])
    )
    assert value == 0 and not np.any(gradient)


def test_logits_hold_queries_in_rows(features):
    image_to_text, text_to_image = contrastive.contrastive_logits(
        *(jnp.asarray(f, jnp.float32) for f in features), 1.5
    )
    np.testing.assert_allclose(
        image_to_text, np.exp(1.5) * features[0] @ features[1].T, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(text_to_image, image_to_text.T, rtol=1e-6)


def test_gradient_equals_differences(features):
    image, text = features
    gradient = jax.grad(lambda i, t, s: loss(i, t, s), argnums=(0, 1, 2))(
        jnp.asarray(image), jnp.asarray(text), 1.0
    )
    for argument, place in ((0, (2, 3)), (1, (4, 1)), (2, ())):
        values = []
        for sign in (1, -1):
            moved = [image.copy(), text.copy(), np.float64(1.0)]
            moved[argument] = moved[argument] + sign * 1e-5 * (
                np.arange(B * D).reshape(B, D) == np.ravel_multi_index(place, (B, D))
                if place
                else 1
            )
            values.append(by_formula(*moved))
        np.testing.assert_allclose(
            gradient[argument][place], (values[0] - values[1]) / 2e-5, atol=1e-5
        )


def test_retrieval_accuracy():
    logits = jnp.asarray([[3.0, 1, 2], [9, 5, 1], [0, 1, 2]])
    np.testing.assert_allclose(contrastive.retrieval_accuracy(logits), 2 / 3)
