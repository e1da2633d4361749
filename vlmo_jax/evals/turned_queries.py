"""Captions whose first image changes when the best candidates are matched: what only the fused
encoder tells apart, and what it spoils.
"""

from typing import NamedTuple

import numpy as np

from vlmo_jax.evals.retrieval import RetrievalEvaluator
from vlmo_jax.evals.retrieval_search import Search, best_candidates


class TurnedQueries(NamedTuple):
    """Some captions with the image that the dual encoder puts first and the one after matching; the
    first arguments of `reports.pages.reranking.reranking_page`.

    Attributes:
        captions: [Q], those that matching mends before those that it spoils.
        images: uint8 [Q, 2, S, S, 3], first by the dual encoder, first after matching.
        correct: bool [Q, 2], one of each pair.
        num_mended, num_spoiled: of all captions of the split.
    """

    captions: list[str]
    images: np.ndarray
    correct: np.ndarray
    num_mended: int
    num_spoiled: int


def turned_queries(
    evaluator: RetrievalEvaluator, search: Search, *, num_mended: int = 8, num_spoiled: int = 4
) -> TurnedQueries | None:
    """Captions of a split that were matched, evenly spread over it.

    Args:
        evaluator: of the split.
        search: what it found, after matching.
        num_mended: captions shown whose image is right after matching alone.
        num_spoiled: captions shown whose image was right before it alone.

    Returns:
        None where matching turns no caption from wrong to right or back.
    """
    matched = search.to_image.matched
    assert matched is not None
    before = best_candidates(search, evaluator.folds, 1).to_image.rows[:, 0]
    firsts = np.stack([before, matched.rows[:, 0]], axis=1)
    correct = firsts == evaluator.text_image[:, None]
    mended = np.flatnonzero(~correct[:, 0] & correct[:, 1])
    spoiled = np.flatnonzero(correct[:, 0] & ~correct[:, 1])
    if not len(mended) and not len(spoiled):
        return None
    rows = np.concatenate([_spread(mended, num_mended), _spread(spoiled, num_spoiled)])
    images = evaluator.pixels(firsts[rows].ravel())
    return TurnedQueries(
        captions=[evaluator.texts[row] for row in rows],
        images=images.reshape(len(rows), 2, *images.shape[1:]),
        correct=correct[rows],
        num_mended=len(mended),
        num_spoiled=len(spoiled),
    )


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.arange(min(count, len(rows))) * len(rows) // max(1, min(count, len(rows)))]
