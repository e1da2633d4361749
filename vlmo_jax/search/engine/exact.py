"""The nearest vectors of a matrix, exactly.

A first pass scores all rows in bfloat16. No score is off by more than a bound, which follows from
how long the rows are and how much of them rounding took, so only rows within twice the bound of
the k-th best can be among the k best: mostly a few more than k. Their scores are computed anew in
float64. So what is found, and every bit of its scores, depends on the vectors alone, whatever the
windows and the devices.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vlmo_jax.commands.endings import UserError
from vlmo_jax.search.engine import coarse
from vlmo_jax.search.engine.best import Best
from vlmo_jax.search.engine.found import Found, no_rows

# Queries are filled up to one of these numbers, and more than the largest are searched in parts:
# a program is compiled for each.
_BATCHES = (8, 64)
_BFLOAT16 = jnp.bfloat16
_SHARE_OF_FREE = 0.8


class UnfitVectorsError(UserError, ValueError):
    """Vectors that cannot be searched, or queries that do not go with them."""


class _Window(NamedTuple):
    """Consecutive rows: the first one's number, and bool [W x devices], which of them are there and
    in no window before.
    """

    first: int
    new: np.ndarray


class ExactSearch:
    """Exact search by inner product.

    Args:
        vectors: float16 or float32 [N, D], finite; an array or a memory-mapped file, which is read
            window by window. Accelerators keep it where half of their memory, and most of what is
            free of it, suffices.
        mesh: whose devices share the rows; None: all of this process.

    Raises:
        UnfitVectorsError: the vectors are of another type or not finite.
    """

    def __init__(self, vectors: np.ndarray, mesh: Mesh | None = None) -> None:
        if vectors.ndim != 2 or vectors.dtype not in (np.float16, np.float32):
            raise UnfitVectorsError(
                f"vectors are {vectors.dtype} {list(vectors.shape)}, and must be float16 or float32"
                " [N, D]"
            )
        self._vectors = vectors
        devices = jax.local_devices() if mesh is None else mesh.devices.reshape(-1)
        self._mesh = Mesh(np.asarray(devices), (coarse.AXIS,))
        self._by_rows = NamedSharding(self._mesh, PartitionSpec(coarse.AXIS))
        self._bits = vectors.view(np.uint16) if vectors.dtype == np.float16 else vectors
        self._rows_of_device = _window_rows(-(-len(vectors) // len(devices)))
        self._windows = list(self._cut())
        self._kept = self._keep() if self._fits() else None
        self._longest, self._lost = self._lengths()

    def _cut(self) -> Iterator[_Window]:
        size, total = self._rows_of_device * self._mesh.size, len(self._vectors)
        for first in range(0, total, size):
            start = max(0, min(first, total - size))  # the last one reaches back
            places = np.arange(start, start + size)
            yield _Window(start, (places >= first) & (places < total))

    def _fits(self) -> bool:
        device = self._mesh.devices.flat[0]
        memory = device.memory_stats() or {}
        limit = memory.get("bytes_limit", 0)
        free = limit - memory.get("bytes_in_use", 0)  # another index may be searched meanwhile
        needed = self._bits.nbytes / self._mesh.size
        return device.platform != "cpu" and needed < min(limit / 2, _SHARE_OF_FREE * free)

    def _keep(self) -> list[jax.Array]:
        return [self._put(window) for window in self._windows]

    def _put(self, window: _Window) -> jax.Array:
        size = len(window.new)
        rows = self._bits[window.first : window.first + size]
        if len(rows) < size:
            rows = np.concatenate([rows, np.zeros((size - len(rows), rows.shape[1]), rows.dtype)])
        return jax.device_put(rows, self._by_rows)

    def _rows(self, number: int) -> jax.Array:
        return self._put(self._windows[number]) if self._kept is None else self._kept[number]

    def _lengths(self) -> tuple[float, float]:
        lengths = [
            coarse.lengths_of_window(self._rows(number), mesh=self._mesh)
            for number in range(len(self._windows))
        ]
        if not lengths:
            return 0.0, 0.0
        longest, lost = np.concatenate([np.asarray(of, np.float64) for of in lengths]).max(0)
        if not np.isfinite(longest + lost):
            raise UnfitVectorsError("a vector is not finite; make the vectors anew")
        return float(longest), float(lost)

    def top_k(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Found:
        """Finds the k rows of each query with the largest inner products.

        Args:
            queries: float32 [Q, D], finite.
            k: 1 or more.
            allowed: bool [N], which rows may be found; None: all.

        Returns:
            Found. Scores are float64 sums rounded to float32.

        Raises:
            UnfitVectorsError: the queries have another length or are not finite.
        """
        queries = np.asarray(queries, np.float32)
        count, width = self._vectors.shape
        if queries.ndim != 2 or queries.shape[1] != width or not np.isfinite(queries).all():
            raise UnfitVectorsError(
                f"queries are {list(queries.shape)}, and must be finite [Q, {width}] as the vectors"
            )
        if k < 1 or (allowed is not None and allowed.shape != (count,)):
            raise ValueError(f"k={k} must be 1 or more, and `allowed` bool [{count}]")
        parts = [
            self._search(queries[first : first + _BATCHES[-1]], k, allowed)
            for first in range(0, len(queries), _BATCHES[-1])
        ]
        return Found(*map(np.concatenate, zip(*parts, strict=True))) if parts else no_rows(0, k)

    def _search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> Found:
        best = Best(self._vectors, queries, k)
        if not self._windows:
            return best.found()
        count = len(queries)
        rounded = np.zeros((min(n for n in _BATCHES if n >= count), queries.shape[1]), _BFLOAT16)
        rounded[:count] = queries
        masks = [self._mask(window, allowed) for window in self._windows]
        # Powers of two, so that few programs are compiled.
        wanted = 1 << (2 * k + 31).bit_length()
        passes = [
            coarse.best_of_window(rounded, self._rows(number), mask, count=wanted, mesh=self._mesh)
            for number, mask in enumerate(masks)
        ]
        firsts = [
            (np.asarray(scores)[:, :count], np.asarray(at)[:, :count]) for scores, at in passes
        ]
        cut = _kth([scores for scores, _ in firsts], k) - 2 * self._bound(queries, rounded[:count])
        for number, (scores, places) in enumerate(firsts):
            reached = (scores >= cut[:, None]) & (scores > -np.inf)
            # Where all that was asked for reaches, there may be more.
            more = reached[:, :, -1].any(0) & (scores.shape[2] < self._rows_of_device)
            devices, of, ranks = np.nonzero(reached & ~more[:, None])
            start = self._windows[number].first
            best.add(of, start + devices * self._rows_of_device + places[devices, of, ranks])
            if more.any():
                everything = coarse.scores_of_window(
                    rounded, self._rows(number), masks[number], mesh=self._mesh
                )
                scores = np.asarray(everything)[:, :count]
                at, of = np.nonzero((scores >= cut) & (scores > -np.inf) & more)
                best.add(of, start + at)
        return best.found()

    def _mask(self, window: _Window, allowed: np.ndarray | None) -> np.ndarray:
        if allowed is None:
            return window.new
        part = allowed[window.first : window.first + len(window.new)]
        return window.new & np.pad(part, (0, len(window.new) - len(part)))

    def _bound(self, queries: np.ndarray, rounded: np.ndarray) -> np.ndarray:
        """float64 [Q]: no score of the first pass is off by more, the last rounding included."""
        exact = queries.astype(np.float64)
        length = np.linalg.norm(exact, axis=1)
        lost = np.linalg.norm(exact - rounded.astype(np.float64), axis=1)
        products = (length + lost) * (self._longest + self._lost)
        return (
            length * self._lost
            + lost * (self._longest + self._lost)
            + products * (exact.shape[1] + 1) * coarse.ROUNDING
        )


def _kth(scores: Sequence[np.ndarray], k: int) -> np.ndarray:
    """float64 [Q]: the k-th largest score of each query, -inf where there are fewer."""
    by_query = np.concatenate([one for window in scores for one in window], axis=1)
    if by_query.shape[1] < k:
        return np.full(len(by_query), -np.inf)
    return np.partition(by_query, -k, axis=1)[:, -k].astype(np.float64)


def _window_rows(rows: int) -> int:
    """Rows of a device in a window, for this many in all."""
    if rows > coarse.TILE:
        return min(coarse.WINDOW, -(-rows // coarse.TILE) * coarse.TILE)
    return max(coarse.BLOCK, 1 << (rows - 1).bit_length()) if rows else coarse.BLOCK
