"""What the searches of a split found, both ways, and how it is reordered, drawn from and told."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vlmo_jax.evals import recall
from vlmo_jax.evals.folds import Fold

# What becomes of the dual encoder's score of a pair that is re-ranked, in words.
RERANKINGS = {
    "replace": "whose score takes the place of the dual encoder's",
    "add": "whose score is added to the dual encoder's",
}


class Vectors(NamedTuple):
    """Similarities that are products of embeddings [Q, D] and [C, D] float32, on every process."""

    queries: np.ndarray
    candidates: np.ndarray

    def top(self, queries: np.ndarray, candidates: np.ndarray, top_k: int) -> recall.Found:
        """The best of some candidates for some queries, by their rows; found are numbers of
        candidates, which are those of `candidates`.
        """
        found = recall.top_candidates(self.queries[queries], self.candidates[candidates], top_k)
        return recall.Found(candidates[found.rows], found.scores)


class Scores(NamedTuple):
    """Similarities [Q, C] float32 that are known one by one, on every process."""

    scores: np.ndarray

    def top(self, queries: np.ndarray, candidates: np.ndarray, top_k: int) -> recall.Found:
        """As of `Vectors`."""
        found = recall.top_scored(self.scores[np.ix_(queries, candidates)], top_k)
        return recall.Found(candidates[found.rows], found.scores)


class Way(NamedTuple):
    """One way of search, images for captions or captions for images.

    Attributes:
        similar: how similar queries and candidates are.
        ranks: of the queries.
        reranked: of the queries after matching; None: nothing was matched.
        matched: the candidates that were matched, in their new order; None as well.
    """

    similar: Vectors | Scores
    ranks: recall.Ranks
    reranked: recall.Ranks | None = None
    matched: recall.Found | None = None


class Search(NamedTuple):
    """Both ways of a split."""

    to_text: Way
    to_image: Way


class Best(NamedTuple):
    """Captions found by the images [images, k], and images found by the captions [captions, k]."""

    to_text: recall.Found
    to_image: recall.Found


def best_candidates(search: Search, folds: Sequence[Fold], top_k: int) -> Best:
    """The best candidates of every query before any is matched, both ways, in the query's fold.

    Args:
        search: of a split.
        folds: its parts.
        top_k: how many; fewer where a fold has no more.
    """
    there = [(fold.images, fold.texts) for fold in folds]
    back = [(fold.texts, fold.images) for fold in folds]
    return Best(_best(search.to_text, there, top_k), _best(search.to_image, back, top_k))


def reorder(way: Way, found: recall.Found, right: np.ndarray, scores: np.ndarray) -> Way:
    """A way of search after its best candidates were matched.

    Args:
        way: by the dual encoder.
        found: candidates [Q, k] of its queries.
        right: [Q, k] bool, which of them are right.
        scores: [Q, k] float32, by which they are ordered now.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    take = lambda values: np.take_along_axis(values, order, axis=1)
    return way._replace(
        reranked=recall.reranked_ranks(way.ranks, right, scores),
        matched=recall.Found(take(found.rows), take(scores)),
    )


def _best(way: Way, parts: Sequence[tuple[np.ndarray, np.ndarray]], top_k: int) -> recall.Found:
    """The best candidates of every query among those of its part: pairs of rows of both."""
    top_k = min([top_k, *(len(candidates) for _, candidates in parts)])
    shape = (len(way.ranks.before), top_k)
    whole = recall.Found(np.zeros(shape, np.int32), np.zeros(shape, np.float32))
    for rows, candidates in parts:
        whole.rows[rows], whole.scores[rows] = way.similar.top(rows, candidates, top_k)
    return whole


def draw_queries(ranks: recall.Ranks, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of hits and misses, as many of both where there are."""
    right = ranks.expected < 1
    hits, misses = np.flatnonzero(right), np.flatnonzero(~right)
    num_misses = min(len(misses), max(count // 2, count - len(hits)))
    num_hits = min(len(hits), count - num_misses)
    drawn = [
        rng.choice(rows, number, replace=False)
        for rows, number in ((hits, num_hits), (misses, num_misses))
    ]
    return np.sort(np.concatenate(drawn))


def describe_ties(search: Search) -> list[str]:
    """A line for people where scores tie, as those of equal captions do."""
    tied = sum(int(np.count_nonzero(way.ranks.tied)) for way in search)
    total = sum(len(way.ranks.before) for way in search)
    if not tied:
        return []
    return [
        f"  {tied:,} of {total:,} queries score wrong candidates the same as the best right one:"
        " these count as in random order"
    ]


def format_metrics(metrics: Mapping[str, float]) -> list[str]:
    """Lines for people: recalls in percent, one line a way."""
    lines = []
    for prefix, label in (("", ""), ("reranked_", ", re-ranked")):
        for way in ("image_to_text", "text_to_image"):
            if f"{prefix}{way}_recall_at_1" in metrics:
                recalls = "  ".join(
                    f"R@{k} {100 * metrics[f'{prefix}{way}_recall_at_{k}']:5.2f} %"
                    for k in recall.CUTOFFS
                )
                rank = metrics[f"{prefix}{way}_median_rank"]
                lines.append(f"  {way.replace('_', ' ')}{label}: {recalls}  median rank {rank:.0f}")
    return lines
