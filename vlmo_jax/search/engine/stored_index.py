"""An index whose vectors are in a store, too, and are searched there."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vlmo_jax.search.about import Origin
from vlmo_jax.search.engine.qdrant import QdrantSearch, QdrantStore, StoreError
from vlmo_jax.search.index import Index

_FORMAT = 1


class Stored(NamedTuple):
    """What was done to a collection.

    Attributes:
        added: vectors that were sent.
        removed: vectors that were taken out.
        rows: vectors that are there now.
    """

    added: int
    removed: int
    rows: int


def store_index(store: QdrantStore, index: Index) -> Stored:
    """Makes a collection hold the vectors of an index, by sending and removing what differs.

    Killed in between, the collection says so, and the next call mends it.

    Args:
        store: the collection; made if it is not there.
        index: of pictures.

    Raises:
        OtherModelError: its vectors are of another model.
        StoreError: it holds something else, or cannot be used.
    """
    facts = store.facts()
    if facts is None:
        store.make(_facts(index, whole=False), index.about.origin.dimension, index.about.dtype)
    else:
        _require_same(facts, store, index)
        store.note(_facts(index, whole=False))
    wanted = dict(zip(_ids(index).tolist(), _digests(index), strict=True))
    there = store.digests()
    rows = [row for row, one in enumerate(wanted) if there.get(one) != wanted[one]]
    ids = list(wanted)
    new = [ids[row] for row in rows]
    store.upsert(new, [wanted[one] for one in new], index.vectors[rows])
    gone = [one for one in there if one not in wanted]
    store.delete(gone)
    if (count := store.count()) != len(wanted):
        raise StoreError(
            f"collection {store.name} has {count} vectors where {len(wanted)} were put; another"
            " program may change it: give the index command again"
        )
    store.note(_facts(index, whole=True))
    return Stored(len(new), len(gone), count)


def search_in_store(store: QdrantStore, index: Index) -> QdrantSearch:
    """The engine of an index whose vectors are in a store.

    Raises:
        OtherModelError: its vectors are of another model.
        StoreError: they are not those of the index.
    """
    facts = store.facts()
    again = "give the index command with this --store again"
    if facts is None:
        raise StoreError(f"there is no collection {store.name}; {again}")
    _require_same(facts, store, index)
    if not facts["whole"]:
        raise StoreError(f"collection {store.name} is not finished; {again}")
    if facts["vectors_sha256"] != index.about.vectors_sha256:
        raise StoreError(f"collection {store.name} is not of {index.folder} as it is now; {again}")
    return QdrantSearch(store, _ids(index))


def _facts(index: Index, *, whole: bool) -> dict[str, Any]:
    about = index.about
    return {
        "format": _FORMAT,
        "origin": dataclasses.asdict(about.origin),
        "dtype": about.dtype,
        "vectors_sha256": about.vectors_sha256,
        "rows": about.rows,
        "whole": whole,
    }


def _require_same(facts: dict[str, Any], store: QdrantStore, index: Index) -> None:
    other = "or name another collection"
    if facts.get("format") != _FORMAT:
        raise StoreError(
            f"collection {store.name} is of format {facts.get('format')}, and this version reads"
            f" {_FORMAT}; name another collection"
        )
    Origin(**facts["origin"]).require_same(index.about.origin, Path(store.name), other)
    if facts["dtype"] != index.about.dtype:
        raise StoreError(
            f"collection {store.name} has vectors of {facts['dtype']}, and {index.folder} of"
            f" {index.about.dtype}; make the index of the same, {other}"
        )


def _ids(index: Index) -> np.ndarray:
    """Unsigned 64 bits of each row: Qdrant takes such numbers for ids, and no 16 digits."""
    rows = index.pictures.table("SELECT id FROM pictures ORDER BY row")
    return np.array([int(one, 16) for (one,) in rows], np.uint64)


def _digests(index: Index) -> list[str]:
    rows = index.pictures.table("SELECT digest FROM pictures ORDER BY row")
    return [one.hex() for (one,) in rows]
