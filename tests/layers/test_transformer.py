"""Scanned, unrolled and rematerialised blocks are one function; drop-path follows its key and its
rates.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.layers.attention import causal_mask
from vlmo_jax.layers.relative_position import fused_index, joint_index, num_rows, position_bias
from vlmo_jax.layers.transformer import MomeTransformer

GRID, LENGTH = 1, 4
SPANS, INDEX = (("text", LENGTH), ("image", 2)), joint_index(GRID, LENGTH, 6)
X = jnp.asarray(np.random.default_rng(1).normal(size=(6, 6, 8)), jnp.float32)
MASK = jnp.asarray(np.arange(6) != 3)[None].repeat(6, axis=0)


def make(**fields):
    """graphdef and large random parameters of a transformer with two lower and two upper blocks."""
    transformer = MomeTransformer(
        4,
        2,
        8,
        2,
        16,
        layer_scale=0.1,
        table_rows=num_rows(GRID, 6),
        drop_path_rate=0.5,
        rngs=nnx.Rngs(0),
        **fields,
    )
    graphdef, state = nnx.split(transformer)
    rng = np.random.default_rng(0)
    return graphdef, jax.tree.map(
        lambda p: jnp.asarray(rng.normal(0, 0.5, p.shape), jnp.float32), state
    )


def loss_and_gradients(key, **fields):
    graphdef, params = make(**fields)

    def loss(params):
        y = nnx.merge(graphdef, params)(
            X, SPANS, ("text", "vision_language"), mask=MASK, index=INDEX, key=key
        )
        return jnp.sin(y).sum(), y

    (_, y), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return y, grads


@pytest.fixture(scope="module")
def unrolled():
    return loss_and_gradients(jax.random.key(0), scan_layers=False, remat="none")


@pytest.mark.parametrize(
    "fields",
    [
        dict(scan_layers=True, remat="dots"),
        dict(scan_layers=False, remat="block"),
    ],
    ids=str,
)
def test_scan_and_remat_change_no_number(unrolled, fields):
    expected, gradients = unrolled
    found, grads = loss_and_gradients(jax.random.key(0), **fields)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(expected).max() > 0.5
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), grads, gradients
    )


@pytest.fixture(scope="module")
def run():
    graphdef, params = make(scan_layers=True)
    return jax.jit(
        lambda key: nnx.merge(graphdef, params)(
            X, SPANS, ("vision_language",), mask=MASK, index=INDEX, key=key
        )
    )


def test_drop_path_is_off_without_key_and_follows_the_key(run):
    off = np.asarray(run(None))
    np.testing.assert_array_equal(off, run(None))
    first, other = np.asarray(run(jax.random.key(0))), np.asarray(run(jax.random.key(1)))
    np.testing.assert_array_equal(first, run(jax.random.key(0)))
    assert (first != off).any() and (first != other).any()


def test_every_block_draws_its_own_masks():
    transformer = MomeTransformer(5, 1, 8, 2, 16, drop_path_rate=0.5, rngs=nnx.Rngs(0))
    block = transformer.lower
    # Block l adds 1 to feature l, if it is kept, and nothing else.
    zero = (
        block.attention.qkv,
        block.attention.out,
        block.experts.stacked.up.kernel,
        block.experts.stacked.down.kernel,
    )
    for variable in zero:
        variable[...] = jnp.zeros(variable.shape)
    block.attention.out_bias[...] = jnp.eye(4, 8)
    graphdef, params = nnx.split(transformer)
    run = jax.jit(
        lambda params, x, key: nnx.merge(graphdef, params).block_states(
            x, (("text", 1),), "text", [3], key=key
        )
    )
    [states] = run(params, jnp.zeros((256, 1, 8)), jax.random.key(0))
    kept = np.asarray(states[:, 0, :4]) > 0
    assert kept[:, 0].all()  # rate 0
    for below, above in ((1, 2), (1, 3), (2, 3)):
        assert (kept[:, above] & ~kept[:, below]).any() and (kept[:, below] & ~kept[:, above]).any()
    np.testing.assert_allclose(kept.mean(0), [1, 0.875, 0.75, 0.625], atol=0.15)


def test_rates_grow_linearly_from_zero():
    graphdef, params = make()
    assert nnx.merge(graphdef, params).drop_path_rates == (
        0.0,
        pytest.approx(1 / 6),
        pytest.approx(1 / 3),
        0.5,
    )


def test_text_and_image_spans_draw_their_own_masks():
    graphdef, params = make()
    block_def, blocks = nnx.split(nnx.merge(graphdef, params).lower)
    block = nnx.merge(block_def, jax.tree.map(lambda p: p[0], blocks))
    x = jnp.tile(X[:1], (64, 1, 1))
    kept = np.asarray(block.feed(x, SPANS, rate=0.5, key=jax.random.key(0)) != x).all(axis=-1)
    text, image = kept[:, :LENGTH], kept[:, LENGTH:]
    assert (text == text[:, :1]).all() and (image == image[:, :1]).all()
    for both in ((True, True), (True, False), (False, True), (False, False)):
        assert ((text[:, 0] == both[0]) & (image[:, 0] == both[1])).any()


def test_a_shared_table_is_every_layers_table_and_gets_the_sum_of_their_gradients():
    def loss(params, graphdef):
        return jnp.sin(nnx.merge(graphdef, params)(X, SPANS, ("text",), index=INDEX)).sum()

    shared_def, shared = make(shared_table=True)
    own_def, own = make()
    table = shared["relative_position_bias"][...]
    assert table.shape == (1, *own["relative_position_bias"].shape[1:])
    copied = nnx.merge(own_def, shared)
    copied.relative_position_bias = nnx.Param(jnp.tile(table, (4, 1, 1)))
    own_def, own = nnx.split(copied)
    differentiate = jax.jit(jax.value_and_grad(loss), static_argnums=1)
    value, grads = differentiate(shared, shared_def)
    own_value, own_grads = differentiate(own, own_def)
    np.testing.assert_allclose(value, own_value, rtol=1e-6)
    total = own_grads["relative_position_bias"][...].sum(0, keepdims=True)
    assert np.abs(total).max() > 0.1
    np.testing.assert_allclose(grads["relative_position_bias"][...], total, atol=1e-5)


def test_the_epsilon_reaches_every_norm():
    transformer = MomeTransformer(
        2, 1, 8, 2, 16, norm_epsilon=1e-3, lower_experts=1, upper_experts=2, rngs=nnx.Rngs(0)
    )
    lower, upper = transformer.lower, transformer.upper
    assert lower.experts.stacked.up.kernel.shape == (
        1,
        1,
        8,
        16,
    ) and upper.experts.stacked.up.kernel.shape == (1, 2, 8, 16)
    norms = (
        transformer.norm,
        lower.norm,
        upper.norm,
        lower.experts.stacked.norm,
        upper.experts.stacked.norm,
    )
    assert [norm.epsilon for norm in norms] == [1e-3] * 5


@pytest.mark.parametrize("scan_layers", [True, False])
def test_states_of_chosen_blocks_are_those_of_shallower_runs(scan_layers):
    graphdef, params = make(scan_layers=scan_layers)
    transformer = nnx.merge(graphdef, params)
    states, whole, normed, expected = jax.jit(states_in_three_ways)(transformer)
    np.testing.assert_allclose(normed, whole, atol=1e-5)
    for number, found in zip([3, 0, 2], states):
        np.testing.assert_allclose(found, expected[number], atol=1e-5)
        assert np.abs(found - expected[3]).max() > 0.1 or number == 3


def states_in_three_ways(transformer):
    """States of the blocks 3, 0 and 2, the whole pass, its norm of the last state, and all states
    block by block, with the modules themselves.
    """
    states = transformer.block_states(
        X, SPANS, "vision_language", [3, 0, 2], mask=MASK, index=INDEX
    )
    whole = transformer(X, SPANS, ("vision_language",), mask=MASK, index=INDEX)[:, 0]
    x, expected = X, {}
    for number in range(4):
        stack, place = (
            (transformer.lower, number) if number < 2 else (transformer.upper, number - 2)
        )
        block_def, blocks = nnx.split(stack)
        block = nnx.merge(block_def, jax.tree.map(functools.partial(take, place), blocks))
        bias = position_bias(transformer.relative_position_bias[number], INDEX)
        x = block.attend(x, mask=MASK, bias=bias, rate=0.0, key=None)
        spans = SPANS if number < 2 else (("vision_language", 6),)
        expected[number] = x = block.feed(x, spans, rate=0.0, key=None)
    return states, whole, transformer.norm(states[0]), expected


def take(place, leaf):
    return leaf[place]


def test_a_causal_mask_holds_through_all_blocks_and_branches():
    graphdef, params = make()
    run = jax.jit(
        lambda x: nnx.merge(graphdef, params)(
            x, SPANS, ("text", "vision_language"), mask=causal_mask(6), index=INDEX
        )
    )
    before, after = run(X), run(X.at[:, 3, 0].add(1.0))
    np.testing.assert_array_equal(before[:, :, :3], after[:, :, :3])
    assert (np.abs(before - after)[:, :, 3:].max((0, 3)) > 1e-2).all()


def test_spans_in_another_order_give_the_same_numbers_with_the_same_drop_path():
    graphdef, params = make()
    turn = functools.partial(jnp.roll, shift=-LENGTH, axis=1)
    weights = jnp.sin(jnp.arange(6 * 6 * 8.0)).reshape(6, 6, 8)

    @functools.partial(jax.jit, static_argnames="turned")
    def run(params, turned):
        x, mask, spans, index = X, MASK, SPANS, INDEX
        if turned:
            x, mask, spans = turn(x), turn(mask), SPANS[::-1]
            index = fused_index(GRID, LENGTH, 6)

        def loss(params):
            y = nnx.merge(graphdef, params)(
                x, spans, ("vision_language",), mask=mask, index=index, key=jax.random.key(0)
            )[:, 0]
            y = jnp.roll(y, LENGTH, axis=1) if turned else y
            return (weights * y).sum(), y

        return jax.value_and_grad(loss, has_aux=True)(params)

    found, expected = run(params, True), run(params, False)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), found, expected
    )
