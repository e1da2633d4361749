import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.layers.attention import SelfAttention

WIDTH, HEADS, TOKENS = 12, 3, 7


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    attention = SelfAttention(WIDTH, HEADS, rngs=nnx.Rngs(0))
    for name in ("qkv", "q_bias", "v_bias", "out", "out_bias"):
        variable = getattr(attention, name)
        variable[...] = jnp.asarray(rng.normal(0, 0.5, variable.shape), jnp.float32)
    x = rng.normal(size=(2, TOKENS, WIDTH))
    mask = np.arange(TOKENS) < np.array([[TOKENS], [4]])
    bias = rng.normal(size=(HEADS, TOKENS, TOKENS))
    return attention, x, mask, bias


def by_loops(attention, x, mask, bias):
    """Attention written with loops in float64."""
    names = ("qkv", "q_bias", "v_bias", "out", "out_bias")
    qkv, q_bias, v_bias, out, out_bias = (
        np.asarray(getattr(attention, name)[...], np.float64) for name in names
    )
    y = np.zeros_like(x) + out_bias
    for row in range(len(x)):
        for head in range(HEADS):
            q = (x[row] @ qkv[:, 0, head] + q_bias[head]) / np.sqrt(WIDTH // HEADS)
            k, v = x[row] @ qkv[:, 1, head], x[row] @ qkv[:, 2, head] + v_bias[head]
            logits = np.where(mask[row], q @ k.T + bias[head], -np.inf)
            weights = np.exp(logits - logits.max(1, keepdims=True))
            y[row] += (weights / weights.sum(1, keepdims=True)) @ v @ out[head]
    return y


def test_equals_loops(case):
    attention, x, mask, bias = case
    found = attention(
        jnp.asarray(x, jnp.float32), mask=jnp.asarray(mask), bias=jnp.asarray(bias, jnp.float32)
    )
    np.testing.assert_allclose(found, by_loops(*case), atol=2e-5)


def test_read_tokens_equal_those_of_all(case):
    attention, x, mask, bias = (
        jnp.asarray(v, jnp.float32) if isinstance(v, np.ndarray) and v.dtype == float else v
        for v in case
    )
    read = jnp.asarray([[0, 3, 3], [6, 1, 0]])
    every = attention(x, mask=mask, bias=bias)
    some = attention(x, mask=mask, bias=bias, read=read)
    # The two sum in another order: each is within 2 float32 spacings of the float64 result,
    # measured on jax 0.10 and 0.12.
    spacing = np.spacing(np.float32(np.abs(every).max()))
    np.testing.assert_allclose(
        some, jnp.take_along_axis(every, read[:, :, None], axis=1), rtol=0, atol=4 * spacing
    )


def test_softmax_stays_float32_in_bfloat16(case):
    attention = SelfAttention(WIDTH, HEADS, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    text = str(jax.make_jaxpr(lambda x: attention(x))(jnp.ones((2, TOKENS, WIDTH), jnp.bfloat16)))
    assert any(" exp " in line and "f32" in line for line in text.splitlines())
    assert not any(" exp " in line and "bf16" in line for line in text.splitlines())
