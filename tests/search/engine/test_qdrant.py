import dataclasses
import importlib.util
import pathlib
import sys
import types

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from vlmo_jax.search.about import About, Origin, OtherModelError
from vlmo_jax.search.engine import qdrant
from vlmo_jax.search.engine.exact import ExactSearch
from vlmo_jax.search.engine.qdrant import StoreError, StoreMissingError, open_store, read_address
from vlmo_jax.search.engine.stored_index import Stored, search_in_store, store_index

needs_client = pytest.mark.skipif(
    importlib.util.find_spec("qdrant_client") is None,
    reason="qdrant-client is not installed: pip install -e '.[qdrant]'",
)

D = 12
ABOUT = About(
    origin=Origin("runs/a", "a/1", "f" * 64, {"image_size": 32}, D),
    pictures="p",
    beside="p",
    rows=40,
    skipped=0,
    dtype="float32",
    made="now",
    decoder="x",
    generation="1",
    vectors_sha256="0" * 64,
)


class Rows:
    """What an index says of its pictures."""

    def __init__(self, ids, digests):
        self.columns = {"id": ids, "digest": digests}

    def table(self, statement):
        return [(one,) for one in self.columns[statement.split()[1]]]


def index_of(rows, sha="0" * 64, digest=b"a", **origin):
    """An index of some pictures; picture n is always the same but for its digest."""
    vectors = np.random.default_rng(0).standard_normal((50, D)).astype(np.float32)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    about = dataclasses.replace(
        ABOUT,
        rows=len(rows),
        vectors_sha256=sha,
        origin=dataclasses.replace(ABOUT.origin, **origin),
    )
    pictures = Rows([f"{2**64 - 1 - row:016x}" for row in rows], [digest] * len(rows))
    return types.SimpleNamespace(
        about=about, vectors=vectors[rows], pictures=pictures, folder=pathlib.Path("my_index")
    )


@pytest.fixture
def store(tmp_path):
    opened = open_store(f"file://{tmp_path}/shop/holiday")
    yield opened
    opened.close()


QUERIES = np.random.default_rng(1).standard_normal((3, D)).astype(np.float32)


def assert_same(index, store, k, allowed=None):
    ours = ExactSearch(index.vectors, Mesh(np.asarray(jax.devices()[:1]), ("x",)))
    expected, found = (
        engine.top_k(QUERIES, k, allowed) for engine in (ours, search_in_store(store, index))
    )
    assert found.rows.dtype == np.int32 and found.scores.dtype == np.float32
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


@needs_client
def test_finds_what_exact_search_finds(store):
    index = index_of(range(40))
    assert store_index(store, index) == Stored(added=40, removed=0, rows=40)
    assert store_index(store, index) == Stored(added=0, removed=0, rows=40)
    assert_same(index, store, 5)
    allowed = np.zeros(40, bool)
    assert_same(index, store, 5, allowed)
    allowed[[3, 30]] = True
    assert_same(index, store, 5, allowed)
    assert_same(index, store, 5, ~allowed)
    assert_same(index, store, 60)


@needs_client
def test_requests_stay_small(store, monkeypatch):
    index = index_of(range(40))
    store_index(store, index)
    monkeypatch.setattr(qdrant, "_IDS", 25)
    sizes, ask = [], store._client.query_batch_points
    monkeypatch.setattr(
        store._client,
        "query_batch_points",
        lambda name, requests: sizes.append(len(requests)) or ask(name, requests),
    )
    allowed = np.arange(40) < 10
    assert_same(index, store, 5, allowed)
    assert sizes == [2, 1]


@needs_client
def test_next_call_sends_what_has_changed(store):
    before, after = index_of(list(range(40))), index_of(list(range(10, 50)), sha="1" * 64)
    store_index(store, before)
    with pytest.raises(StoreError, match="not of my_index as it is now; give the index command"):
        search_in_store(store, after)
    assert store_index(store, after) == Stored(added=10, removed=10, rows=40)
    assert_same(after, store, 7)
    changed = index_of(list(range(10, 50)), digest=b"b", sha="2" * 64)
    changed.vectors = changed.vectors[::-1].copy()
    assert store_index(store, changed) == Stored(added=40, removed=0, rows=40)
    assert_same(changed, store, 7)


@needs_client
def test_what_was_stopped_says_so_and_goes_on(store, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    index = index_of(list(range(40)))
    with monkeypatch.context() as patch:
        patch.setattr(store, "count", stop)
        with pytest.raises(KeyboardInterrupt):
            store_index(store, index)
    with pytest.raises(StoreError, match="holiday is not finished; give the index command"):
        search_in_store(store, index)
    assert store_index(store, index).added == 0
    assert_same(index, store, 5)


@needs_client
def test_refuses_what_is_not_its_own(store):
    with pytest.raises(StoreError, match="no collection holiday; give the index command"):
        search_in_store(store, index_of(range(4)))
    store_index(store, index_of(range(4)))
    for act in (store_index, search_in_store):
        with pytest.raises(OtherModelError, match=r"holiday was made with runs/a \(weights fff"):
            act(store, index_of(range(4), fingerprint="e" * 64))
        with pytest.raises(OtherModelError, match="preprocessing"):
            act(store, index_of(range(4), preprocessing={"image_size": 64}))
    store._client.create_collection("holiday2", vectors_config=None, metadata={"of": "others"})
    store.name = "holiday2"
    with pytest.raises(StoreError, match="was not made by vlmo_jax"):
        store_index(store, index_of(range(4)))


@needs_client
def test_says_when_a_collection_changes_meanwhile(store):
    index = index_of(range(4))
    store_index(store, index)
    engine = search_in_store(store, index)
    store.upsert([5], ["c"], 9 * QUERIES[:1])
    with pytest.raises(StoreError, match="has changed meanwhile"):
        engine.top_k(QUERIES[:1], 2)


@needs_client
def test_nobody_answers():
    store = open_store("http://127.0.0.1:1/holiday")
    with pytest.raises(StoreError, match="no Qdrant answers .*start one: docker run"):
        search_in_store(store, index_of(range(4)))


@needs_client
def test_one_program_at_a_time_has_the_files(store, tmp_path):
    with pytest.raises(StoreError, match="another program"):
        open_store(f"file://{tmp_path}/shop/other")


def test_addresses():
    address = read_address("https://example.org:6333/prefix/holiday?shards=6&replicas=2")
    assert address.server == "https://example.org:6333/prefix" and address.name == "holiday"
    assert (address.shards, address.replicas) == (6, 2)
    assert read_address("file:///tmp/a%20b/holiday/").folder == "/tmp/a b"


@pytest.mark.parametrize(
    "url",
    ["", "holiday", "http://example.org", "ftp://h/n", "http://h/n?shards=0", "http://h/n?what=1"],
)
def test_refuses_addresses(url):
    with pytest.raises(StoreError, match="is no address; write http://HOST:6333/NAME"):
        read_address(url)


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(StoreMissingError, match=r"pip install -e '\.\[qdrant\]'"):
        open_store("http://localhost/holiday")
