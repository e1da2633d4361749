import types

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from vlmo_jax.search.engine import coarse
from vlmo_jax.search.engine.exact import ExactSearch, UnfitVectorsError

D = 24


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """So that a few rows fill several windows, and a window several tiles."""
    monkeypatch.setattr(coarse, "TILE", 128)
    monkeypatch.setattr(coarse, "WINDOW", 256)


def one_device():
    return Mesh(np.asarray(jax.devices()[:1]), ("x",))


def vectors_of(rows, seed=0, dtype=np.float16):
    vectors = np.random.default_rng(seed).standard_normal((rows, D))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)


def expected(vectors, queries, k, allowed=None):
    scores = np.stack([(vectors.astype(np.float64) * one).sum(1) for one in queries])
    scores = scores.astype(np.float32)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int32)
    scores = np.take_along_axis(scores, rows, 1)
    missing = ((0, 0), (0, k - rows.shape[1]))
    rows = np.pad(np.where(scores > -np.inf, rows, -1), missing, constant_values=-1)
    return np.pad(scores, missing, constant_values=-np.inf), rows


def assert_exact(vectors, queries, k, allowed=None, mesh=None):
    found = ExactSearch(vectors, mesh or one_device()).top_k(queries, k, allowed)
    scores, rows = expected(vectors, queries, k, allowed)
    assert found.scores.dtype == np.float32 and found.rows.dtype == np.int32
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.scores, scores)


QUERIES = vectors_of(3, seed=1, dtype=np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("rows", [1, 64, 300, 700])
def test_finds_what_float64_finds(rows, dtype):
    assert_exact(vectors_of(rows, dtype=dtype), QUERIES, 5)


def test_same_on_any_window_and_mesh(monkeypatch):
    vectors, queries = vectors_of(1100), vectors_of(70, seed=2, dtype=np.float32)
    ones = [ExactSearch(vectors, one_device()).top_k(queries, 4)]
    ones.append(ExactSearch(vectors).top_k(queries, 4))  # eight devices
    ones.append(
        ExactSearch(vectors, Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))).top_k(
            queries, 4
        )
    )
    monkeypatch.setattr(coarse, "WINDOW", 1 << 20)
    ones.append(ExactSearch(vectors, one_device()).top_k(queries, 4))
    for other in ones[1:]:
        np.testing.assert_array_equal(ones[0].rows, other.rows)
        np.testing.assert_array_equal(ones[0].scores, other.scores)


def test_of_equal_rows_the_lower_ones_come_first():
    """More of them than the first pass gives, in several windows."""
    vectors = vectors_of(600)
    vectors[40:590] = vectors[20]
    assert_exact(vectors, vectors[20:21].astype(np.float32), 7)
    assert_exact(np.repeat(vectors[:1], 600, axis=0), QUERIES, 7)


def test_rows_that_bfloat16_cannot_tell_apart():
    rng = np.random.default_rng(3)
    vectors = (np.ones((600, D)) + 1e-5 * rng.standard_normal((600, D))).astype(np.float32)
    assert_exact(vectors, np.ones((1, D), np.float32), 9)
    assert_exact(100 * vectors, QUERIES, 9)


def test_tiny_and_long_rows():
    vectors = vectors_of(300, dtype=np.float32)
    assert_exact((vectors * 3e-5).astype(np.float16), QUERIES, 5)
    assert_exact((vectors * np.geomspace(1e-6, 1e4, 300)[:, None]).astype(np.float16), QUERIES, 5)
    assert_exact(np.zeros((70, D), np.float16), QUERIES, 5)


def test_only_allowed_rows_are_found():
    vectors, allowed = vectors_of(600), np.zeros(600, bool)
    assert_exact(vectors, QUERIES, 5, allowed)
    allowed[[0, 3, 299, 599]] = True
    assert_exact(vectors, QUERIES, 5, allowed)
    allowed[1::2] = True
    assert_exact(vectors, QUERIES, 5, allowed, Mesh(np.asarray(jax.devices()), ("x",)))


def test_more_asked_for_than_there_are():
    assert_exact(vectors_of(300), QUERIES, 300)
    assert_exact(vectors_of(30), QUERIES, 200)
    found = ExactSearch(np.zeros((0, D), np.float16)).top_k(QUERIES, 2)
    assert (found.rows == -1).all() and found.scores.shape == (3, 2)
    assert ExactSearch(vectors_of(3)).top_k(QUERIES[:0], 2).rows.shape == (0, 2)


def test_memory_mapped_files(tmp_path):
    vectors = vectors_of(300)
    np.save(tmp_path / "v.npy", vectors)
    assert_exact(np.load(tmp_path / "v.npy", mmap_mode="r"), QUERIES, 5)


def test_what_accelerators_keep_is_the_same(monkeypatch):
    monkeypatch.setattr(ExactSearch, "_fits", lambda self: True)
    assert_exact(vectors_of(700), QUERIES, 5)


def test_few_programs_are_compiled():
    search = ExactSearch(vectors_of(700), one_device())
    before = coarse.best_of_window._cache_size()
    for count, k in ((1, 3), (3, 5), (8, 10)):
        search.top_k(vectors_of(count, dtype=np.float32), k)
    assert coarse.best_of_window._cache_size() - before <= 1


def test_bits_of_float16_become_bfloat16():
    bits = np.arange(2**16, dtype=np.uint16)
    values = bits.view(np.float16).astype(np.float32)
    ours = np.asarray(coarse.as_bfloat16(bits)).astype(np.float32)
    normal = np.isfinite(values) & (np.abs(values) >= 2**-14)
    np.testing.assert_array_equal(
        ours[normal], values[normal].astype("bfloat16").astype(np.float32)
    )
    assert (ours[np.abs(values) < 2**-14] == 0).all()
    exactly = np.asarray(coarse._as_float32(bits))
    np.testing.assert_array_equal(exactly[np.isfinite(values)], values[np.isfinite(values)])
    assert np.isnan(exactly[~np.isfinite(values)]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_what_has_no_order(bad):
    for dtype in (np.float16, np.float32):
        vectors = vectors_of(300, dtype=dtype)
        vectors[250, 3] = bad
        with pytest.raises(UnfitVectorsError, match="not finite"):
            ExactSearch(vectors, one_device())
    with pytest.raises(UnfitVectorsError, match="finite"):
        ExactSearch(vectors_of(3)).top_k(QUERIES * bad, 1)
    with pytest.raises(UnfitVectorsError, match=r"\[Q, 24\]"):
        ExactSearch(vectors_of(3)).top_k(QUERIES[:, 1:], 1)
    with pytest.raises(UnfitVectorsError, match="float64"):
        ExactSearch(vectors_of(3, dtype=np.float64))


def test_bound_holds():
    vectors = vectors_of(256) * np.float16(3)
    search = ExactSearch(vectors, one_device())
    queries = 5 * QUERIES
    rounded = queries.astype("bfloat16")
    scores = coarse.scores_of_window(
        rounded, search._rows(0), np.ones(256, bool), mesh=search._mesh
    )
    off = np.abs(
        np.asarray(scores, np.float64).T - queries.astype(np.float64) @ vectors.T.astype(float)
    )
    bound = search._bound(queries, rounded.astype(np.float32))
    assert (off.max(1) <= bound).all() and (off.max(1) > bound / 50).all()


@pytest.mark.parametrize(
    ("platform", "in_use", "fits"),
    [("gpu", 0, True), ("gpu", 450, True), ("gpu", 550, False), ("cpu", 0, False)],
)
def test_vectors_are_kept_where_half_of_a_device_and_what_is_free_suffice(platform, in_use, fits):
    device = types.SimpleNamespace(
        platform=platform,
        memory_stats=lambda: {"bytes_limit": 1000, "bytes_in_use": in_use},
    )
    search = object.__new__(ExactSearch)
    search._mesh = types.SimpleNamespace(size=1, devices=np.array([device]))
    search._bits = np.zeros((10, 10), np.float32)
    assert search._fits() == fits
    search._bits = np.zeros((20, 10), np.float32)
    assert not search._fits()
