"""In chunks and on shards: the same loss, gradients, accuracies and draws as out of all pairs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.objectives.batch_contrast import compare_batch
from vlmo_jax.objectives.chunked_contrast import _entry_numbers, _gumbel
from vlmo_jax.objectives.matching import Draw
from vlmo_jax.parallel import sharding

B, D = 32, 6
KEYS = jax.random.split(jax.random.key(5))
MESHES = [(1, 1, 1), (8, 1, 1), (4, 2, 1), (2, 2, 2)]


@pytest.fixture(scope="module")
def features():
    x = np.random.default_rng(0).normal(size=(2, B, D)).astype(np.float32)
    x[1] += x[0]  # own pairs are similar, though not always the most
    x[1, 9], x[1, 20] = x[1, 3], x[1, 3]  # a text that three images have: equal logits
    image, text = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return {"image": image, "text": text}


@pytest.fixture(scope="module")
def ids():
    image, text = np.arange(B), 100 + np.arange(B)
    image[[4, 11, 30]], text[[3, 9, 20]] = 4, 103
    return image.astype(np.uint32), text.astype(np.uint32)


def measure(features, logit_scale, ids, *, chunk, easier=0.0, groups=0):
    """Loss, accuracies and draws, and the gradient by features and scale of twice the loss."""

    def loss(features, logit_scale):
        contrast = compare_batch(
            **features, logit_scale=logit_scale, ids=ids, chunk=chunk, how=Draw(easier, groups)
        )
        return 2 * contrast.loss, (contrast.accuracies(), contrast.draw(KEYS[0], KEYS[1]))

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(features, logit_scale)


def measure_on(shape, *arguments, **fields):
    """The same on a mesh; without a shape outside of any."""
    function = jax.jit(functools.partial(measure, **fields))
    if shape is None:
        return jax.device_get(function(*arguments))
    mesh = tiny.mesh_of(shape)
    features, scale, ids = arguments
    with jax.set_mesh(mesh):
        split = sharding.place_batch(features, mesh)
        return jax.device_get(function(split, scale, ids))


def assert_same(found, expected):
    compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    jax.tree.map(compare, found, expected)
    for drawn, wanted in zip(found[0][1][1], expected[0][1][1], strict=True):
        np.testing.assert_array_equal(drawn, wanted)


@pytest.fixture(scope="module")
def whole(features, ids):
    scale = np.float32(np.log(1 / 0.07))
    return {
        masked: measure_on(None, features, scale, ids if masked else (), chunk=0, easier=0.2)
        for masked in (False, True)
    }


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape, chunk", [(None, 8), (None, 32), *((m, 2) for m in MESHES)])
def test_same_as_out_of_all_pairs(features, ids, whole, shape, chunk, masked):
    given = features, np.float32(np.log(1 / 0.07)), ids if masked else ()
    found = measure_on(shape, *given, chunk=chunk, easier=0.2)
    assert_same(found, whole[masked])
    assert 0 < found[0][1][0][0] < 1  # accuracies that say something
    assert abs(whole[True][0][0] - whole[False][0][0]) > 0.01


@pytest.mark.parametrize("shape, chunk", [(None, 8), ((4, 2, 1), 2)])
def test_draws_within_groups(features, ids, whole, shape, chunk):
    """Whole and in chunks the same, and nothing else changes."""
    given = features, np.float32(np.log(1 / 0.07)), ids
    expected = measure_on(None, *given, chunk=0, easier=0.2, groups=8)
    assert_same(measure_on(shape, *given, chunk=chunk, easier=0.2, groups=8), expected)
    for drawn, anywhere in zip(expected[0][1][1], whole[True][0][1][1], strict=True):
        assert (drawn // 4 == np.arange(B) // 4).all() and (drawn != np.arange(B)).all()
        assert (drawn != anywhere).any()
    np.testing.assert_array_equal(expected[0][0], whole[True][0][0])


@pytest.mark.parametrize("logit_scale", [-20.0, 60.0, 100.0])
def test_draws_at_extreme_temperatures(features, logit_scale):
    found, expected = (
        measure_on(None, features, np.float32(logit_scale), (), chunk=chunk)[0][1][1]
        for chunk in (8, 0)
    )
    for drawn, wanted in zip(found, expected, strict=True):
        assert (drawn != np.arange(B)).all()
        np.testing.assert_array_equal(drawn, wanted)


def test_batch_of_one_caption(features):
    """No negatives: the loss is zero, and a draw is among all others."""
    ids = np.arange(B, dtype=np.uint32), np.zeros(B, np.uint32)
    found, expected = (
        measure_on(None, features, np.float32(2), ids, chunk=chunk) for chunk in (4, 0)
    )
    assert_same(found, expected)
    assert abs(found[0][0]) < 1e-6
    assert all((drawn != np.arange(B)).all() for drawn in found[0][1][1])


def test_noise_is_that_of_the_whole_array():
    size, key = 12, jax.random.key(3)
    expected = jax.random.gumbel(key, (size, size))
    words = jax.random.key_data(key)
    found = _gumbel(words[0], words[1], jnp.arange(4, 8), jnp.arange(9, 12), size)
    np.testing.assert_array_equal(found, expected[4:8, 9:12])


def test_numbers_of_entries_beyond_32_bits():
    rows, columns = np.uint32([0, 65_535, 65_536, 1_299_708]), np.uint32([0, 1, 1_299_708])
    size = 1_299_709
    high, low = _entry_numbers(jnp.asarray(rows)[:, None], jnp.asarray(columns)[None], size)
    found = np.asarray(high).astype(np.uint64) << np.uint64(32) | np.asarray(low)
    expected = rows.astype(np.uint64)[:, None] * np.uint64(size) + columns
    np.testing.assert_array_equal(found, expected)


def test_no_array_of_all_pairs_is_made(features):
    mesh, size = tiny.mesh_of((4, 2, 1)), 512
    shapes = {
        name: jax.ShapeDtypeStruct((size, D), jnp.float32, sharding=sharding.batch_sharding(mesh))
        for name in features
    }
    temporaries = []
    with jax.set_mesh(mesh):
        for chunk in (0, 16):
            step = jax.jit(functools.partial(measure, chunk=chunk), static_argnums=2)
            compiled = step.lower(shapes, 0.5, ()).compile()
            temporaries.append(compiled.memory_analysis().temp_size_in_bytes)
    assert temporaries[1] < temporaries[0] / 5
