"""Convolution, pooling and upsampling against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.layers.conv import Conv, max_pool, upsample


@pytest.mark.parametrize("size", [1, 3, 7])
def test_convolution_keeps_the_size_and_sees_zeros_outside(size):
    rng = np.random.default_rng(0)
    with nnx.use_eager_sharding(False):
        conv = Conv(2, 3, size, rngs=nnx.Rngs(0))
    conv.bias[...] = jnp.asarray(rng.normal(size=3), jnp.float32)
    x, kernel = rng.normal(size=(1, 4, 6, 2)).astype(np.float32), np.asarray(conv.kernel[...])
    expected, reach = np.zeros((4, 6, 3)), size // 2
    for row, column in np.ndindex(4, 6):
        for i, j in np.ndindex(size, size):
            y, z = row + i - reach, column + j - reach
            if 0 <= y < 4 and 0 <= z < 6:
                expected[row, column] += x[0, y, z] @ kernel[i, j]
    np.testing.assert_allclose(conv(x)[0], expected + np.asarray(conv.bias[...]), atol=1e-5)


def test_kernels_start_with_the_deviation_of_their_inputs():
    with nnx.use_eager_sharding(False):
        conv = Conv(64, 64, 3, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(conv.kernel[...].std(), (9 * 64) ** -0.5, rtol=0.02)
    assert not conv.bias[...].any()


def test_pooling_takes_the_largest_of_each_square_and_upsampling_fills_it():
    x = jnp.asarray(
        np.random.default_rng(0).permutation(2 * 4 * 6 * 3).reshape(2, 4, 6, 3), jnp.float32
    )
    pooled = max_pool(x)
    assert pooled.shape == (2, 2, 3, 3)
    for row, column in np.ndindex(2, 3):
        square = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(pooled[:, row, column], square.max((1, 2)))
    np.testing.assert_array_equal(upsample(pooled), np.asarray(pooled).repeat(2, 1).repeat(2, 2))
    gradient = jax.grad(lambda x: max_pool(x).sum())(x)
    np.testing.assert_array_equal(gradient, x == upsample(pooled))


def test_the_gradient_of_pooling_goes_to_the_first_of_equals_as_in_torch():
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, (2, 5, 6, 3)), jnp.float32)
    wanted = np.zeros(x.shape, np.float32)
    for image, row, column, channel in np.ndindex(2, 2, 3, 3):
        square = np.asarray(x[image, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel])
        down, right = np.unravel_index(square.argmax(), square.shape)  # the first of several
        wanted[image, 2 * row + down, 2 * column + right, channel] = 1
    np.testing.assert_array_equal(jax.grad(lambda x: max_pool(x).sum())(x), wanted)


def test_pooling_has_a_gradient_where_its_input_is_rounded_differently_twice():
    """A sum of products that is computed once for the values and once for the gradient may be one
    instruction here and two there."""
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)
    rng = np.random.default_rng(0)
    x, scale, gain = draw(2, 8, 8, 4), draw(1, 1, 1, 4), draw(1, 1, 1, 4)
    add = lambda x: x + gain * jax.nn.relu(x * scale)  # as a block of the discrete VAE
    gradient = jax.jit(jax.grad(lambda x: max_pool(add(x)).sum()))(x)
    assert jnp.isfinite(gradient).all()
    eager = jax.grad(lambda x: max_pool(add(x)).sum())(x)
    np.testing.assert_allclose(gradient, eager, rtol=1e-6)
