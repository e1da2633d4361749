"""The best rows of each query, of those whose scores are worth computing in full."""

import numpy as np

from vlmo_jax.search.engine.found import Found, no_rows

_PAIRS = 2048  # (query, row) pairs whose scores are computed at once


class Best:
    """Keeps the k best rows of each query; memory does not grow with the rows that are added.

    Args:
        vectors: float [N, D].
        queries: float32 [Q, D].
        k: 1 or more.
    """

    def __init__(self, vectors: np.ndarray, queries: np.ndarray, k: int) -> None:
        self._vectors, self._queries, self._k = vectors, queries.astype(np.float64), k
        self._of, self._rows = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._scores = np.zeros(0, np.float32)

    def add(self, of: np.ndarray, rows: np.ndarray) -> None:
        """Scores rows, and keeps them where they are among the best.

        Args:
            of: int [P], numbers of queries.
            rows: int [P]; no pair may come twice.
        """
        for first in range(0, len(of), _PAIRS):
            part = slice(first, first + _PAIRS)
            self._merge(of[part], rows[part])

    def _merge(self, of: np.ndarray, rows: np.ndarray) -> None:
        # Products summed row by row: a score does not depend on what is computed beside it.
        scores = (self._vectors[rows].astype(np.float64) * self._queries[of]).sum(1)
        of, rows = np.concatenate([self._of, of]), np.concatenate([self._rows, rows])
        scores = np.concatenate([self._scores, scores.astype(np.float32)])
        order = np.lexsort((rows, -scores, of))
        order = order[_ranks(of[order]) < self._k]
        self._of, self._rows, self._scores = of[order], rows[order], scores[order]

    def found(self) -> Found:
        """What has been kept."""
        found, at = no_rows(len(self._queries), self._k), (self._of, _ranks(self._of))
        found.scores[at], found.rows[at] = self._scores, self._rows
        return found


def _ranks(of: np.ndarray) -> np.ndarray:
    """How many before each are of the same query, int [P]; they are sorted by it."""
    return np.arange(len(of)) - np.searchsorted(of, of)
