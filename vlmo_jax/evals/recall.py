"""Exact retrieval metrics from embeddings, never holding more than a slab of the similarity matrix.

A query has a group and so has each candidate; the candidates of the query's own group are right,
all others wrong. The rank of a query is the number of wrong candidates that come before its best
right one, so 0 is a hit at 1. With several captions an image, the best of them counts.

Candidates that score the same come in a random order, and what is measured is what is expected of
it: the mean rank, and the chance of a hit. So a model that gives everything one score has the
recall of chance. NaN comes first: a broken model ranks last. Where nothing ties, the ranks are
those of the evaluation code of VSE-infinity and ALBEF.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

CUTOFFS = (1, 5, 10)
SLAB_ENTRIES = 2**25  # similarities held at once: 128 MiB of float32


class Ranks(NamedTuple):
    """Where the best right candidate of each query comes.

    Attributes:
        before: [Q] int32, wrong candidates that score higher.
        tied: [Q] int32, wrong candidates that score the same.
        right: [Q] int32, right candidates with that score; 1 where it is NaN.
    """

    before: np.ndarray
    tied: np.ndarray
    right: np.ndarray

    @classmethod
    def without_ties(cls, ranks: np.ndarray) -> "Ranks":
        """Of plain ranks [Q] int, from 0."""
        ranks = np.asarray(ranks, np.int32)
        return cls(ranks, np.zeros_like(ranks), np.ones_like(ranks))

    @classmethod
    def empty(cls, count: int) -> "Ranks":
        """Room for those of so many queries."""
        return cls(*np.zeros((3, count), np.int32))

    @property
    def expected(self) -> np.ndarray:
        """[Q] float64, from 0: the mean over all orders of what ties."""
        return self.before + self.tied / (self.right + 1.0)

    @property
    def worst(self) -> np.ndarray:
        """[Q] int32, from 0: what ties comes before."""
        return self.before + self.tied

    def hits(self, cutoff: int) -> np.ndarray:
        """[Q] float64, 0 to 1: the chance that the best right candidate is among the first."""
        misses = np.ones(len(self.before))
        for place in range(cutoff):  # drawn one after the other, from the first that ties
            drawn = place < cutoff - self.before
            left = np.maximum(self.tied - place, 0)
            misses *= np.where(drawn, left / (left + self.right), 1.0)
        return 1.0 - misses

    def take(self, rows: np.ndarray) -> "Ranks":
        """Those of some queries."""
        return Ranks(*(part[rows] for part in self))


class Found(NamedTuple):
    """The most similar candidates of each query, best first.

    Attributes:
        rows: [Q, k] int32, of the candidates.
        scores: [Q, k] float32, their similarities.
    """

    rows: np.ndarray
    scores: np.ndarray


def best_ranks(
    queries: np.ndarray,
    candidates: np.ndarray,
    query_groups: np.ndarray,
    candidate_groups: np.ndarray,
    *,
    slab_entries: int = SLAB_ENTRIES,
) -> Ranks:
    """Ranks of the best right candidate of each query.

    Args:
        queries: embeddings [Q, D] float32.
        candidates: embeddings [C, D] float32; every query group occurs among the candidates.
        query_groups: [Q] int32.
        candidate_groups: [C] int32.
        slab_entries: how many similarities are held at once.

    Returns:
        Ranks of the queries, from 0 (first) to the number of wrong candidates (last).

    Source: VLMo section 4.3 (recall on COCO and Flickr30K).
    """
    slabs = _slabs(len(queries), len(candidates), slab_entries)
    query_groups, candidate_groups = (
        np.asarray(query_groups, np.int32),
        np.asarray(candidate_groups, np.int32),
    )
    counts = _best_ranks(queries, candidates, query_groups, candidate_groups, slabs=slabs)
    return Ranks(*np.asarray(counts).T)


def scored_ranks(
    scores: np.ndarray,
    query_groups: np.ndarray,
    candidate_groups: np.ndarray,
    *,
    slab_entries: int = SLAB_ENTRIES,
) -> Ranks:
    """As `best_ranks`, of queries whose scores [Q, C] float32 with all candidates are known."""
    rows = max(1, slab_entries // scores.shape[1])
    query_groups, candidate_groups = (
        np.asarray(groups, np.int32) for groups in (query_groups, candidate_groups)
    )
    slabs = [
        np.asarray(
            _ranks_of_slab(
                scores[row : row + rows], query_groups[row : row + rows], candidate_groups
            )
        )
        for row in range(0, len(scores), rows)
    ]
    return Ranks(*np.concatenate(slabs).T)


def top_scored(scores: np.ndarray, top_k: int) -> Found:
    """As `top_candidates`, by scores [Q, C] float32."""
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :top_k].astype(np.int32)
    return Found(rows, np.take_along_axis(scores, rows, axis=1))


def top_candidates(
    queries: np.ndarray, candidates: np.ndarray, top_k: int, *, slab_entries: int = SLAB_ENTRIES
) -> Found:
    """The `top_k` most similar candidates of each query, best first, the lower row first in a tie.

    Args:
        queries: embeddings [Q, D] float32.
        candidates: embeddings [C, D] float32, C at least `top_k`.
        top_k: how many.
        slab_entries: how many similarities are held at once.

    Returns:
        The rows of `candidates` and their similarities.
    """
    slabs = _slabs(len(queries), len(candidates), slab_entries)
    found = _top_candidates(queries, candidates, top_k=top_k, slabs=slabs)
    return Found(*map(np.asarray, found))


def reranked_ranks(ranks: Ranks, top_right: np.ndarray, top_scores: np.ndarray) -> Ranks:
    """Ranks after the top candidates of each query are put in the order of another score.

    A query whose right candidates are all outside of its top candidates keeps its rank. (The
    official code gives all others the score -100, where they tie: recalls up to k are the same.)

    Args:
        ranks: of the queries, by the first score.
        top_right: [Q, k] bool, which of the top candidates are right.
        top_scores: [Q, k] float32, their second score.

    Source: ALBEF section 3.5 (ITM scores of the top k by ITC).
    """
    best = np.max(top_scores, axis=1, where=top_right, initial=-np.inf)[:, None]
    same, lower = top_scores == best, top_scores < best  # both False for NaN
    before = (~top_right & ~same & ~lower).sum(axis=1)
    tied, right = (~top_right & same).sum(axis=1), (top_right & same).sum(axis=1)
    inside = top_right.any(axis=1)
    return Ranks(
        np.where(inside, before, ranks.before).astype(np.int32),
        np.where(inside, tied, ranks.tied).astype(np.int32),
        np.where(inside, np.maximum(right, 1), ranks.right).astype(np.int32),
    )


def recall_metrics(image_to_text_ranks: Ranks, text_to_image_ranks: Ranks) -> dict[str, float]:
    """Recall at 1, 5 and 10, median and mean rank both ways, and the mean of the six recalls.

    Args:
        image_to_text_ranks: of the images.
        text_to_image_ranks: of the captions.

    Returns:
        Dict of floats: recalls are shares from 0 to 1; ranks count from 1, the median one rounded
        down as VSE++ and its heirs do.
    """
    metrics, recalls = {}, []
    for way, ranks in (
        ("image_to_text", image_to_text_ranks),
        ("text_to_image", text_to_image_ranks),
    ):
        for cutoff in CUTOFFS:
            metrics[f"{way}_recall_at_{cutoff}"] = float(np.mean(ranks.hits(cutoff)))
            recalls.append(metrics[f"{way}_recall_at_{cutoff}"])
        metrics[f"{way}_median_rank"] = float(math.floor(np.median(ranks.expected)) + 1)
        metrics[f"{way}_mean_rank"] = float(np.mean(ranks.expected) + 1)
    metrics["mean_recall"] = float(np.mean(recalls))
    return metrics


def chance_recall(num_right: Sequence[int], num_candidates: int, cutoff: int) -> float:
    """The recall that a random order gives.

    Args:
        num_right: [Q] int, right candidates of each query.
        num_candidates: int.
        cutoff: the k of recall at k.

    Returns:
        Mean over the queries of the chance that one of the first k candidates is right, 0 to 1.
    """
    cutoff = min(cutoff, num_candidates)
    misses = {
        n: math.comb(num_candidates - n, cutoff) / math.comb(num_candidates, cutoff)
        for n in set(num_right)
    }
    return 1.0 - sum(misses[n] for n in num_right) / len(num_right)


def _slabs(num_queries, num_candidates, slab_entries):
    return min(num_queries, math.ceil(num_queries * num_candidates / slab_entries))


def _map_slabs(function, slabs, *query_arrays):
    """Maps a function of query rows over slabs of them, one after the other; the last one is
    padded.
    """
    num_queries = query_arrays[0].shape[0]
    rows = -(-num_queries // slabs)
    stacked = []
    for array in query_arrays:
        padding = [(0, slabs * rows - num_queries)] + [(0, 0)] * (array.ndim - 1)
        stacked.append(jnp.pad(array, padding).reshape(slabs, rows, *array.shape[1:]))
    results = jax.lax.map(lambda slab: function(*slab), tuple(stacked))
    return jax.tree.map(lambda x: x.reshape(slabs * rows, *x.shape[2:])[:num_queries], results)


def _similarities(queries, candidates):
    return jnp.matmul(
        queries, candidates.T, precision="highest", preferred_element_type=jnp.float32
    )


@functools.partial(jax.jit, static_argnames="slabs")
def _best_ranks(queries, candidates, query_groups, candidate_groups, *, slabs):
    def ranks_of(queries, query_groups):
        return _ranks_of(_similarities(queries, candidates), query_groups, candidate_groups)

    return _map_slabs(ranks_of, slabs, queries, query_groups)


def _ranks_of(scores, query_groups, candidate_groups):
    """The parts of Ranks, [Q, 3] int32, by scores [Q, C]."""
    right = query_groups[:, None] == candidate_groups[None, :]
    best = jnp.max(scores, axis=1, where=right, initial=-jnp.inf)[:, None]
    same = scores == best
    # "neither lower nor the same" instead of "higher": true wherever there is a NaN.
    masks = (~right & ~same & ~(scores < best), ~right & same, right & same)
    before, tied, tied_right = (mask.sum(axis=1, dtype=jnp.int32) for mask in masks)
    return jnp.stack([before, tied, jnp.maximum(tied_right, 1)], axis=1)


_ranks_of_slab = jax.jit(_ranks_of)


@functools.partial(jax.jit, static_argnames=("top_k", "slabs"))
def _top_candidates(queries, candidates, *, top_k, slabs):
    def top_of(slab):
        scores, rows = jax.lax.top_k(_similarities(slab, candidates), top_k)
        return rows, scores

    return _map_slabs(top_of, slabs, queries)
