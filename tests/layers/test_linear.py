import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.layers import linear

X = jnp.asarray(np.random.default_rng(0).normal(size=(64, 50, 16)), jnp.float32)


@pytest.mark.parametrize("drop", [linear.dropout, linear.drop_path])
def test_without_key_or_rate_nothing_is_dropped(drop):
    np.testing.assert_array_equal(drop(X, 0.5, None), X)
    np.testing.assert_array_equal(drop(X, 0.0, jax.random.key(0)), X)


@pytest.mark.parametrize("drop", [linear.dropout, linear.drop_path])
def test_a_key_draws_and_another_key_draws_otherwise(drop):
    first, again, other = (np.asarray(drop(X, 0.3, jax.random.key(key))) for key in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_dropout_keeps_the_expectation():
    dropped = np.asarray(linear.dropout(jnp.ones((400, 500)), 0.3, jax.random.key(0)))
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.7)}
    np.testing.assert_allclose((dropped > 0).mean(), 0.7, atol=0.005)  # five deviations


def test_drop_path_drops_whole_examples_and_keeps_the_expectation():
    dropped = np.asarray(
        linear.drop_path(jnp.ones((40_000, 2, 3)), jnp.float32(0.3), jax.random.key(0))
    )
    assert (dropped == dropped[:, :1, :1]).all()
    np.testing.assert_allclose(dropped.mean(), 1.0, atol=0.02)
    np.testing.assert_allclose((dropped[:, 0, 0] > 0).mean(), 0.7, atol=0.012)


def test_drop_path_keeps_the_type():
    assert linear.drop_path(X.astype(jnp.bfloat16), 0.1, jax.random.key(0)).dtype == jnp.bfloat16
    assert linear.dropout(X.astype(jnp.bfloat16), 0.1, jax.random.key(0)).dtype == jnp.bfloat16


def test_gelu_is_exact():
    x = np.linspace(-6, 6, 301, dtype=np.float32)
    expected = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.astype(np.float64)]
    np.testing.assert_allclose(linear.gelu(jnp.asarray(x)), expected, atol=1e-6)
    assert (
        np.abs(np.asarray(jax.nn.gelu(x)) - expected).max() > 1e-4
    )  # the tanh form would be noticed


@pytest.mark.parametrize("epsilon", [1e-6, 1e-12])
def test_layer_norm(epsilon):
    norm = linear.LayerNorm(16, epsilon=epsilon, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(1)
    norm.scale[...], norm.bias[...] = (
        jnp.asarray(rng.normal(size=16)),
        jnp.asarray(rng.normal(size=16)),
    )
    x = np.concatenate([np.asarray(X[0]), 1e-4 * np.asarray(X[1])]).astype(np.float64)
    centred = x - x.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * np.asarray(
        norm.scale
    ) + np.asarray(norm.bias)
    np.testing.assert_allclose(norm(jnp.asarray(x, jnp.float32)), expected, atol=1e-4)


def test_layer_norm_of_a_large_mean_is_accurate():
    x = jnp.asarray(np.asarray(X[0]) + 300.0)
    norm = linear.LayerNorm(16, epsilon=1e-6, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(norm(x), norm(x - 300.0), atol=1e-3)


def test_norms_and_bias_keep_bfloat16():
    layer = linear.Linear(16, 4, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert layer(X).dtype == jnp.bfloat16 and layer.kernel[...].dtype == jnp.float32
    assert (
        linear.LayerNorm(16, epsilon=1e-6, rngs=nnx.Rngs(0))(X.astype(jnp.bfloat16)).dtype
        == jnp.bfloat16
    )


def test_quick_and_tanh_gelu_are_their_formulas():
    x = np.linspace(-6, 6, 301)
    tanh = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    quick = x / (1 + np.exp(-1.702 * x))
    for found, expected in ((linear.tanh_gelu, tanh), (linear.quick_gelu, quick)):
        np.testing.assert_allclose(found(jnp.asarray(x, jnp.float32)), expected, atol=1e-6)
