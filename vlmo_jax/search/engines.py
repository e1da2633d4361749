"""What a search engine is to those who ask it."""

from typing import Protocol

import numpy as np

from vlmo_jax.search.engine.found import Found


class Engine(Protocol):
    """Finds the vectors of an index that are nearest to others."""

    def top_k(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Found:
        """The k best rows for each of float32 [Q, D], of those that `allowed`, bool [N], leaves."""
        ...
