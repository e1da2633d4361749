import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.layers.blocks import PostNormBlock, PreNormBlock, Stack, layer_of

WIDTH, MEMORY, TOKENS = 8, 6, 5
KINDS = {
    "before": (PreNormBlock, {}),
    "after": (PostNormBlock, {}),
    "with a memory": (PostNormBlock, {"memory_width": MEMORY}),
}


def make_stack(kind, depth=3, **fields):
    block, sizes = KINDS[kind]
    make = functools.partial(make_block, block, sizes)
    return Stack(depth, make, rngs=nnx.Rngs(0), **fields)


def make_block(block, sizes, rngs):
    return block(WIDTH, 2, 16, dropout_rate=0.5, init_std=0.3, **sizes, rngs=rngs)


def inputs(kind):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, TOKENS, WIDTH)), jnp.float32)
    given = {"mask": jnp.asarray([[True] * 5, [True] * 3 + [False] * 2])}
    if "memory_width" in KINDS[kind][1]:
        given["memory"] = jnp.asarray(rng.normal(size=(2, 4, MEMORY)), jnp.float32)
        given["memory_mask"] = jnp.asarray([[True] * 4, [True, False, False, True]])
    return x, given


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_run_a_stack_gives_the_same(kind):
    x, given = inputs(kind)
    stack = make_stack(kind)
    one_by_one = x
    graphdef, params = nnx.split(stack.blocks)
    for number in range(3):
        block = nnx.merge(graphdef, layer_of(params, number))
        one_by_one = block(one_by_one, **given)
    for fields in ({}, {"scan_layers": False}, {"remat": "block"}):
        found = make_stack(kind, **fields)(x, **given)
        np.testing.assert_allclose(found, one_by_one, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_comes_from_places_that_are_masked(kind):
    x, given = inputs(kind)
    stack = make_stack(kind)
    changed = x.at[1, 3:].add(1.0)
    if "memory" in given:
        given_changed = {**given, "memory": given["memory"].at[1, 1:3].add(1.0)}
    else:
        given_changed = given
    before, after = stack(x, **given), stack(changed, **given_changed)
    np.testing.assert_array_equal(before[1, :3], after[1, :3])
    assert np.abs(before[1, 3:] - after[1, 3:]).min() > 0


def test_a_memory_is_read():
    x, given = inputs("with a memory")
    stack = make_stack("with a memory")
    changed = {**given, "memory": given["memory"].at[0, 0].add(1.0)}
    assert np.abs(stack(x, **given)[0] - stack(x, **changed)[0]).min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_drawn_by_key_in_every_block(kind):
    x, given = inputs(kind)
    stack = make_stack(kind)
    first, again = (stack(x, key=jax.random.key(1), **given) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - stack(x, **given)).max() > 0.01
    assert np.abs(first - stack(x, key=jax.random.key(2), **given)).max() > 0.01


@pytest.mark.parametrize("fields", [{}, {"scan_layers": False}, {"remat": "block"}], ids=str)
def test_parts_of_a_stack_one_after_the_other_are_the_whole(fields):
    x, given = inputs("after")
    stack = make_stack("after", **fields)
    half = stack(x, part=range(0, 2), **given)
    np.testing.assert_allclose(stack(half, part=range(2, 3), **given), stack(x, **given), atol=2e-5)
    np.testing.assert_array_equal(stack(x, part=range(1, 1), **given), x)
