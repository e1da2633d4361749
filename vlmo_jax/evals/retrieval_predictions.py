"""What a model found for each query of a split, as lines of a file of predictions."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from vlmo_jax.evals.retrieval import RetrievalEvaluator
from vlmo_jax.evals.retrieval_search import Search, Way, best_candidates

TOP = 10  # candidates of a query that are written down


def retrieval_predictions(evaluator: RetrievalEvaluator, search: Search) -> Iterator[dict]:
    """All images and then all captions as queries, in the order of the split.

    A caption is called by its image's id and its number there, from 0: `391895.jpg#2`.

    Args:
        evaluator: of the split.
        search: what it found.

    Yields:
        way, query, text (of a caption), right (ids), rank (from 1, of the best right candidate by
        the dual encoder; not whole where it ties), top (the ids and similarities of the first
        candidates, best first), and after matching reranked_rank and reranked_top.
    """
    image_ids = list(evaluator.image_ids)
    numbers = np.arange(len(evaluator.texts)) - np.searchsorted(
        evaluator.text_image, evaluator.text_image
    )
    text_ids = [
        f"{image_ids[row]}#{number}"
        for row, number in zip(evaluator.text_image, numbers, strict=True)
    ]
    best_texts, best_images = best_candidates(search, evaluator.folds, TOP)
    for row, image_id in enumerate(image_ids):
        first, stop = np.searchsorted(evaluator.text_image, (row, row + 1))
        fields = {"query": image_id, "right": text_ids[first:stop]}
        found = _describe(search.to_text, best_texts, text_ids, row)
        yield {"way": "image_to_text", **fields, **found}
    for row, (text_id, text) in enumerate(zip(text_ids, evaluator.texts, strict=True)):
        right = [image_ids[evaluator.text_image[row]]]
        found = _describe(search.to_image, best_images, image_ids, row)
        yield {"way": "text_to_image", "query": text_id, "text": text, "right": right, **found}


def _describe(way: Way, best, ids, row) -> dict[str, Any]:
    found = {"rank": way.ranks.expected[row] + 1, "top": _top(best, ids, row)}
    if way.reranked and way.matched:
        found["reranked_rank"] = way.reranked.expected[row] + 1
        found["reranked_top"] = _top(way.matched, ids, row)
    return found


def _top(found, ids, row) -> list[dict[str, Any]]:
    pairs = zip(found.rows[row, :TOP], found.scores[row, :TOP], strict=True)
    return [{"id": ids[candidate], "score": round(float(score), 6)} for candidate, score in pairs]
