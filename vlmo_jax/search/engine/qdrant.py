"""The vectors of an index in a collection of Qdrant, for what one machine cannot hold or answer.

    http://HOST:6333/NAME[?shards=6&replicas=2]    a server; its key is in QDRANT_API_KEY
    file:///FOLDER/NAME                            files of this machine, for trying it out

A point is a picture: its id is that of the picture, its payload the digest of the file, by which
the next call sees what has changed. The metadata of the collection say which model and which index
the vectors are of.
"""

import contextlib
import os
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vlmo_jax.commands.endings import UserError
from vlmo_jax.search.engine.found import Found, no_rows

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_FACTS = "vlmo_jax"  # in the metadata
_POINTS = 512  # sent or removed at once
_LISTED = 8192  # asked for at once
_QUERIES = 64  # asked at once
_IDS = 1_000_000  # in the filters of one request: servers take 32 MB, unless told otherwise
_SECONDS = 60
START = "docker run -p 127.0.0.1:6333:6333 -v qdrant:/qdrant/storage qdrant/qdrant"


class StoreError(UserError, ValueError):
    """A store that cannot be used, or that holds something else."""


class StoreMissingError(UserError, ImportError):
    """The client of Qdrant is not installed."""


class Address(NamedTuple):
    """Where a collection is.

    Attributes:
        server: URL, or None.
        folder: of files, or None.
        name: of the collection.
        shards, replicas: of a collection that is made; None: as Qdrant has it.
    """

    server: str | None
    folder: str | None
    name: str
    shards: int | None
    replicas: int | None


def read_address(url: str) -> Address:
    """Reads the value of --store.

    Raises:
        StoreError: it is none.
    """
    parts = urllib.parse.urlsplit(url)
    before, _, name = parts.path.rstrip("/").rpartition("/")
    options = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    numbers = [options.pop(key, None) for key in ("shards", "replicas")]
    fine = all(one is None or (one.isdigit() and int(one) > 0) for one in numbers)
    if parts.scheme not in ("http", "https", "file") or not name or options or not fine:
        raise StoreError(
            f"--store={url} is no address; write http://HOST:6333/NAME, where NAME is of a"
            " collection, with ?shards=N&replicas=N if wanted, or file:///FOLDER/NAME"
        )
    shards, replicas = (None if one is None else int(one) for one in numbers)
    if parts.scheme == "file":
        return Address(None, urllib.parse.unquote(before), name, shards, replicas)
    return Address(f"{parts.scheme}://{parts.netloc}{before}", None, name, shards, replicas)


def open_store(url: str) -> "QdrantStore":
    """Opens what --store names; see the module.

    Raises:
        StoreError: it is no address, or nobody answers there.
        StoreMissingError: the client is not installed.
    """
    address = read_address(url)
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise StoreMissingError(
            "--store needs qdrant-client, which is not installed here; run pip install -e"
            " '.[qdrant]'"
        ) from error
    if address.folder is not None:
        try:
            client = QdrantClient(path=address.folder, force_disable_check_same_thread=True)
        except RuntimeError as error:  # of another process
            raise StoreError(
                f"--store={url}: another program has its files open: {error}"
            ) from error
    else:
        key = os.environ.get("QDRANT_API_KEY")
        client = QdrantClient(
            url=address.server, api_key=key, timeout=_SECONDS, check_compatibility=False
        )
    return QdrantStore(client, address)


class QdrantStore:
    """A collection.

    Args:
        client: of Qdrant.
        address: of the collection.

    Attributes:
        name: of the collection.
    """

    def __init__(self, client: "QdrantClient", address: Address) -> None:
        self._client, self._address, self.name = client, address, address.name

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        where = f"{self._address.server or self._address.folder}, collection {self.name}"
        try:
            yield
        except UnexpectedResponse as error:
            cure = "look into its log"
            if error.status_code in (401, 403):
                cure = "set QDRANT_API_KEY to its key"
            said = " ".join((error.content or b"").decode(errors="replace").split())[:200]
            raise StoreError(f"{where}: Qdrant says {error.status_code} {said}; {cure}") from error
        except ResponseHandlingException as error:
            raise StoreError(
                f"{where}: no Qdrant answers ({error}); look whether it runs, or start one: {START}"
            ) from error

    def facts(self) -> dict[str, Any] | None:
        """What the metadata say of the vectors; None where there is no collection.

        Raises:
            StoreError: the collection is somebody else's.
        """
        with self._asking():
            if not self._client.collection_exists(self.name):
                return None
            metadata = self._client.get_collection(self.name).config.metadata or {}
        if _FACTS not in metadata:
            raise StoreError(
                f"collection {self.name} was not made by vlmo_jax, or by a Qdrant before 1.16,"
                " which keeps no metadata; name another"
            )
        return metadata[_FACTS]

    def make(self, facts: Mapping[str, Any], dimension: int, dtype: str) -> None:
        """Makes the collection, empty.

        Args:
            facts: JSON values that say what the vectors are.
            dimension: D.
            dtype: float16 or float32.
        """
        from qdrant_client import models

        with self._asking():
            self._client.create_collection(
                self.name,
                vectors_config=models.VectorParams(
                    size=dimension,
                    distance=models.Distance.DOT,
                    datatype=models.Datatype(dtype),
                    on_disk=True,
                ),
                shard_number=self._address.shards,
                replication_factor=self._address.replicas,
                metadata={_FACTS: dict(facts)},
            )
        self.facts()

    def note(self, facts: Mapping[str, Any]) -> None:
        """Says anew what the vectors are."""
        with self._asking():
            self._client.update_collection(self.name, metadata={_FACTS: dict(facts)})

    def count(self) -> int:
        """Vectors that are there."""
        with self._asking():
            return self._client.count(self.name, exact=True).count

    def digests(self) -> dict[int, str]:
        """{id: digest} of all points."""
        found: dict[int, str] = {}
        offset, first = None, True
        while first or offset is not None:
            with self._asking():
                points, offset = self._client.scroll(
                    self.name, limit=_LISTED, offset=offset, with_payload=["digest"]
                )
            found |= {int(one.id): (one.payload or {}).get("digest", "") for one in points}
            first = False
        return found

    def upsert(self, ids: Sequence[int], digests: Sequence[str], vectors: np.ndarray) -> None:
        """Adds points, or puts them in the place of those that have their ids.

        Args:
            ids: [N], 64 bits each.
            digests: [N], of the pictures.
            vectors: float [N, D].
        """
        from qdrant_client import models

        for first in range(0, len(ids), _POINTS):
            part = slice(first, first + _POINTS)
            batch = models.Batch(
                ids=list(ids[part]),
                vectors=np.asarray(vectors[part], np.float32).tolist(),
                payloads=[{"digest": digest} for digest in digests[part]],
            )
            with self._asking():
                self._client.upsert(self.name, batch)

    def delete(self, ids: Sequence[int]) -> None:
        """Removes points."""
        for first in range(0, len(ids), _POINTS):
            with self._asking():
                self._client.delete(self.name, list(ids[first : first + _POINTS]))

    def search(
        self, queries: np.ndarray, k: int, only: Sequence[int] | None, but: Sequence[int]
    ) -> list[list[tuple[int, float]]]:
        """(id, inner product) of the k best points of each query.

        Args:
            queries: float32 [Q, D].
            k: 1 or more.
            only: ids of points that may be found; None: all.
            but: those that may not.
        """
        from qdrant_client import models

        which = None
        if only is not None:
            which = models.Filter(must=[models.HasIdCondition(has_id=list(only))])
        elif but:
            which = models.Filter(must_not=[models.HasIdCondition(has_id=list(but))])
        found, step = [], min(_QUERIES, max(1, _IDS // (1 + len(only or but))))
        for first in range(0, len(queries), step):
            requests = [
                models.QueryRequest(query=one.tolist(), limit=k, filter=which)
                for one in queries[first : first + step]
            ]
            with self._asking():
                answers = self._client.query_batch_points(self.name, requests)
            found += [[(int(hit.id), hit.score) for hit in one.points] for one in answers]
        return found


class QdrantSearch:
    """Search in a collection, with rows for its points.

    Qdrant's own index answers, which is approximate in large collections.

    Args:
        store: the collection.
        ids: uint64 [N], of the point of each row.
    """

    def __init__(self, store: QdrantStore, ids: np.ndarray) -> None:
        self._store, self._ids = store, ids
        self._order = np.argsort(ids)

    def top_k(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Found:
        """Finds the k rows of each query with the largest inner products.

        Args:
            queries: float [Q, D].
            k: 1 or more.
            allowed: bool [N], which rows may be found; None: all. The ids of the smaller part are
                sent.

        Returns:
            Found.

        Raises:
            StoreError: the collection cannot be searched, or has changed.
        """
        found = no_rows(len(queries), k)
        count = len(self._ids) if allowed is None else int(allowed.sum())
        if not count or not len(queries):
            return found
        only, but = None, []
        if allowed is not None and 2 * count <= len(allowed):
            only = self._ids[allowed].tolist()
        elif allowed is not None:
            but = self._ids[~allowed].tolist()
        answers = self._store.search(np.asarray(queries, np.float32), min(k, count), only, but)
        for query, hits in enumerate(answers):
            rows = self._rows(np.array([one for one, _ in hits], np.uint64))
            scores = np.array([score for _, score in hits], np.float32)
            order = np.lexsort((rows, -scores))
            found.rows[query, : len(hits)] = rows[order]
            found.scores[query, : len(hits)] = scores[order]
        return found

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self._ids, ids, sorter=self._order)
        rows = self._order[np.minimum(places, len(self._order) - 1)]
        if not np.array_equal(self._ids[rows], ids):
            raise StoreError("the collection has changed meanwhile; open the index again")
        return rows
