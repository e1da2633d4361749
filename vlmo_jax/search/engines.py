"""What a search engine is to those who ask it."""

from typing import Protocol

import numpy as np


class Found(Protocol):
    """What a search engine finds: float32 [Q, k] and int32 [Q, k], best first; score -inf and row
    -1 where there are fewer.
    """

    @property
    def scores(self) -> np.ndarray:
        """Cosines."""
        ...

    @property
    def rows(self) -> np.ndarray:
        """Of the index."""
        ...


class Engine(Protocol):
    """Finds the vectors of an index that are nearest to others."""

    def top_k(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Found:
        """The k best rows for each of float32 [Q, D], of those that `allowed`, bool [N], leaves."""
        ...
