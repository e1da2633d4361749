"""What a search gives."""

from typing import NamedTuple

import numpy as np


class Found(NamedTuple):
    """The best rows of each query, best first; of equal scores the lower row comes first.

    Attributes:
        scores: float32 [Q, k], inner products; -inf where there are fewer than k rows.
        rows: int32 [Q, k]; -1 there.
    """

    scores: np.ndarray
    rows: np.ndarray


def no_rows(queries: int, k: int) -> Found:
    """What is found among nothing."""
    return Found(np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int32))
