"""Where the norm stands, and which activation lies between the two matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.layers.feed_forward import FeedForward
from vlmo_jax.layers.linear import LayerNorm, gelu, quick_gelu, tanh_gelu

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 8)), jnp.float32)


@pytest.mark.parametrize("activation", [gelu, quick_gelu, tanh_gelu])
def test_the_activation_lies_between_the_two_matrices(activation):
    layer = FeedForward(
        8, 16, activation=activation, norm_epsilon=None, init_std=0.5, rngs=nnx.Rngs(0)
    )
    up, down = np.asarray(layer.up.kernel), np.asarray(layer.down.kernel)
    np.testing.assert_allclose(layer(X), activation(X @ up) @ down, atol=1e-5)
    others = [other for other in (gelu, quick_gelu, tanh_gelu) if other is not activation]
    for other in others:
        assert np.abs(layer(X) - other(X @ up) @ down).max() > 1e-4


def test_a_norm_stands_first_or_there_is_none():
    first = FeedForward(8, 16, init_std=0.5, rngs=nnx.Rngs(0))
    none = FeedForward(8, 16, norm_epsilon=None, init_std=0.5, rngs=nnx.Rngs(0))
    norm = LayerNorm(8, epsilon=1e-6, rngs=nnx.Rngs(0))
    none.up, none.down = first.up, first.down
    assert "norm" not in nnx.to_pure_dict(nnx.state(none))
    np.testing.assert_array_equal(first(X), none(norm(X)))
    assert np.abs(first(X) - none(X)).max() > 1e-2


def test_gamma_multiplies_what_comes_out_and_has_the_same_gradient():
    layer = FeedForward(8, 16, init_std=0.5, rngs=nnx.Rngs(0))
    layer.down.bias[...] = jnp.linspace(-1.0, 1.0, 8)
    gamma, weights = jnp.linspace(0.1, 2.0, 8), jnp.sin(jnp.arange(X.size)).reshape(X.shape)
    inside = lambda gamma: (weights * layer(X, gamma=gamma)).sum()
    outside = lambda gamma: (weights * layer(X) * gamma[None, None]).sum()
    for one, other in zip(
        jax.value_and_grad(inside)(gamma), jax.value_and_grad(outside)(gamma), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5)
