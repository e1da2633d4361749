"""Who sees whom: causal and prefix masks, a memory, and keys and values that are cached."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.layers.attention import CrossAttention, SelfAttention, causal_mask, prefix_mask

WIDTH, HEADS, TOKENS, MEMORY = 12, 3, 6, 5
IN_PREFIX = np.arange(TOKENS) >= 4  # VLMo's order: text, then the image


def draw(module):
    """The module with large random parameters, biases included."""
    graphdef, params = nnx.split(module)
    rng = np.random.default_rng(0)
    return nnx.merge(
        graphdef,
        jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.5, p.shape), jnp.float32), params),
    )


@pytest.fixture(scope="module")
def attention():
    return draw(SelfAttention(WIDTH, HEADS, key_bias=True, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def cross():
    return draw(CrossAttention(WIDTH, 7, HEADS, head_width=2, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def x():
    return jnp.asarray(np.random.default_rng(1).normal(size=(2, TOKENS, WIDTH)), jnp.float32)


@pytest.fixture(scope="module")
def memory():
    return jnp.asarray(np.random.default_rng(2).normal(size=(2, MEMORY, 7)), jnp.float32)


def seen(attention, x, mask):
    """[query, key] bool: which output moves when a token is changed."""
    call = jax.jit(functools.partial(attention, mask=mask))
    before, moved = call(x), []
    for token in range(TOKENS):
        after = call(x.at[:, token].add(1.0))
        moved.append(np.abs(np.asarray(after - before)).max((0, 2)) > 0)
    return np.stack(moved, axis=1)


def test_a_token_sees_itself_and_what_comes_before(attention, x):
    expected = np.array([[key <= query for key in range(TOKENS)] for query in range(TOKENS)])
    np.testing.assert_array_equal(seen(attention, x, causal_mask(TOKENS)), expected)


@pytest.mark.parametrize("in_prefix", [IN_PREFIX, ~IN_PREFIX], ids=["behind", "in front"])
def test_a_prefix_is_seen_by_all_and_sees_itself_alone(attention, x, in_prefix):
    expected = np.array(
        [
            [in_prefix[key] or (not in_prefix[query] and key <= query) for key in range(TOKENS)]
            for query in range(TOKENS)
        ]
    )
    found = seen(attention, x, prefix_mask(in_prefix))
    # A token's own output moves with it in any case: its query does.
    np.testing.assert_array_equal(found | np.eye(TOKENS, dtype=bool), expected)


def test_masks_are_joined(attention, x):
    token_mask = jnp.asarray([[True] * TOKENS, [True] * 3 + [False] * 3])
    found = attention(x, mask=token_mask[:, None] & causal_mask(TOKENS))
    causal = attention(x, mask=causal_mask(TOKENS))
    np.testing.assert_allclose(found[0], causal[0], atol=1e-6)
    np.testing.assert_allclose(found[1, :3], causal[1, :3], atol=1e-6)
    assert np.abs(found[1, 3:] - causal[1, 3:]).max() > 1e-2


def test_queries_that_are_read_keep_their_rows_of_the_mask(attention, x):
    read = jnp.asarray([[0, 3], [5, 1]])
    for mask in (causal_mask(TOKENS), np.stack([np.tri(TOKENS), np.eye(TOKENS)]) > 0):
        every, some = attention(x, mask=mask), attention(x, mask=mask, read=read)
        expected = jnp.take_along_axis(every, read[:, :, None], axis=1)
        np.testing.assert_allclose(some, expected, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_cached_equals_uncached(attention, x, bias):
    """The image first, which stands behind the text, then one token of text after the other."""
    mask = prefix_mask(IN_PREFIX)
    table = jnp.asarray(np.random.default_rng(3).normal(size=(HEADS, TOKENS, TOKENS)), jnp.float32)
    fields = dict(mask=mask, bias=table if bias else None)

    @jax.jit
    def extend(x, cache, position):
        rows = lambda a: jax.lax.dynamic_slice_in_dim(jnp.asarray(a), position, x.shape[1], axis=1)
        return attention.extend(x, cache, position, **jax.tree.map(rows, fields))

    image, cache = extend(x[:, 4:], attention.empty_cache(2, TOKENS), 4)
    found = []
    for position in range(4):
        y, cache = extend(x[:, position : position + 1], cache, position)
        found.append(y)
    expected = attention(x, **fields)
    np.testing.assert_allclose(jnp.concatenate([*found, image], axis=1), expected, atol=1e-5)
    assert np.abs(expected).max() > 0.5


def numpy_cross(cross, x, memory, mask):
    part = lambda name: np.asarray(getattr(cross, name)[...], np.float64)
    q = np.einsum("bnd,dhk->bhnk", x, part("q")) + part("q_bias")[:, None]
    k, v = np.einsum("bmd,dthk->tbhmk", memory, part("kv"))
    k, v = k + part("k_bias")[:, None], v + part("v_bias")[:, None]
    logits = np.einsum("bhnk,bhmk->bhnm", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(logits) * mask[:, None, None]
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhnm,bhmk,hkd->bnd", weights, v, part("out")) + part("out_bias")


def test_cross_attention_equals_numpy(cross, x, memory):
    mask = np.arange(MEMORY) < np.array([[MEMORY], [2]])
    expected = numpy_cross(cross, np.float64(x), np.float64(memory), mask)
    found = cross(x, memory, mask=jnp.asarray(mask))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_array_equal(found, cross.read(x, cross.remember(memory), mask=mask))


def test_masked_places_of_a_memory_change_nothing(cross, x, memory):
    mask = jnp.asarray(np.arange(MEMORY) < 3)[None].repeat(2, axis=0)
    call = jax.jit(functools.partial(cross, mask=mask))
    np.testing.assert_array_equal(call(x, memory), call(x, memory.at[:, 3:].set(9.0)))
    assert np.abs(call(x, memory) - call(x, memory.at[:, 2].set(9.0))).max() > 1e-2


def test_a_key_bias_is_an_argument():
    biases = lambda module: {name for name in nnx.to_pure_dict(nnx.state(module)) if "bias" in name}
    with_keys, without = (
        {"q_bias", "k_bias", "v_bias", "out_bias"},
        {"q_bias", "v_bias", "out_bias"},
    )
    assert biases(SelfAttention(WIDTH, HEADS, rngs=nnx.Rngs(0))) == without
    assert biases(SelfAttention(WIDTH, HEADS, key_bias=True, rngs=nnx.Rngs(0))) == with_keys
    cross = CrossAttention(WIDTH, 7, HEADS, key_bias=False, rngs=nnx.Rngs(0))
    assert biases(cross) == without
