"""Exact retrieval metrics from embeddings, never holding more than a slab of the similarity matrix.

A query has a group and so has each candidate; the candidates of the query's own group are right,
all others wrong. The rank of a query is the number of wrong candidates that come before its best
right one, so 0 is a hit at 1. With several captions an image, the best of them counts.

A tie never helps: a wrong candidate that scores the same as the best right one comes before it.
Neither does NaN: it compares as "before" too, so that a broken model ranks last and not first.
Where nothing ties, the ranks are those of the evaluation code of VSE-infinity and ALBEF.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

CUTOFFS = (1, 5, 10)
SLAB_ENTRIES = 2**25  # similarities held at once: 128 MiB of float32


def best_ranks(
    queries: np.ndarray,
    candidates: np.ndarray,
    query_groups: np.ndarray,
    candidate_groups: np.ndarray,
    *,
    slab_entries: int = SLAB_ENTRIES,
) -> np.ndarray:
    """Ranks of the best right candidate of each query.

    Args:
        queries: embeddings [Q, D] float32.
        candidates: embeddings [C, D] float32; every query group occurs among the candidates.
        query_groups: [Q] int32.
        candidate_groups: [C] int32.
        slab_entries: how many similarities are held at once.

    Returns:
        [Q] int32, 0 (first) to the number of wrong candidates (last).

    Source: VLMo section 4.3 (recall on COCO and Flickr30K); ties are ranked against us.
    """
    slabs = _slabs(len(queries), len(candidates), slab_entries)
    query_groups, candidate_groups = (
        np.asarray(query_groups, np.int32),
        np.asarray(candidate_groups, np.int32),
    )
    return np.asarray(_best_ranks(queries, candidates, query_groups, candidate_groups, slabs=slabs))


def top_candidates(
    queries: np.ndarray, candidates: np.ndarray, top_k: int, *, slab_entries: int = SLAB_ENTRIES
) -> np.ndarray:
    """The `top_k` most similar candidates of each query, best first, the lower row first in a tie.

    Args:
        queries: embeddings [Q, D] float32.
        candidates: embeddings [C, D] float32, C at least `top_k`.
        top_k: how many.
        slab_entries: how many similarities are held at once.

    Returns:
        [Q, top_k] int32 rows of `candidates`.
    """
    slabs = _slabs(len(queries), len(candidates), slab_entries)
    return np.asarray(_top_candidates(queries, candidates, top_k=top_k, slabs=slabs))


def reranked_ranks(ranks: np.ndarray, top_right: np.ndarray, top_scores: np.ndarray) -> np.ndarray:
    """Ranks after the top candidates of each query are put in the order of another score.

    A query whose right candidates are all outside of its top candidates keeps its rank.

    Args:
        ranks: [Q] int32, ranks by the first score.
        top_right: [Q, k] bool, which of the top candidates are right.
        top_scores: [Q, k] float32, their second score.

    Returns:
        [Q] int32.

    Source: ALBEF section 3.5 (ITM scores of the top k by ITC).
    """
    best = np.max(top_scores, axis=1, where=top_right, initial=-np.inf)
    before = ~top_right & ~(top_scores < best[:, None])
    return np.where(top_right.any(axis=1), before.sum(axis=1), ranks).astype(np.int32)


def recall_metrics(
    image_to_text_ranks: np.ndarray, text_to_image_ranks: np.ndarray
) -> dict[str, float]:
    """Recall at 1, 5 and 10, median and mean rank both ways, and the mean of the six recalls.

    Args:
        image_to_text_ranks: [images] int, from 0.
        text_to_image_ranks: [captions] int, from 0.

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
            metrics[f"{way}_recall_at_{cutoff}"] = float(np.mean(np.asarray(ranks) < cutoff))
            recalls.append(metrics[f"{way}_recall_at_{cutoff}"])
        metrics[f"{way}_median_rank"] = float(math.floor(np.median(ranks)) + 1)
        metrics[f"{way}_mean_rank"] = float(np.mean(np.asarray(ranks, np.float64)) + 1)
    metrics["mean_recall"] = float(np.mean(recalls))
    return metrics


def fold_metrics(
    images: np.ndarray,
    texts: np.ndarray,
    image_groups: np.ndarray,
    text_groups: np.ndarray,
    *,
    folds: int,
) -> dict[str, float]:
    """Metrics of parts of a split, each searched alone, and their mean: COCO's "1k" figures are the
    mean of five folds of its 5,000 test images.

    Args:
        images: embeddings [I, D] float32, in the order in which they are dealt into folds.
        texts: embeddings [T, D] float32, each in the fold of its image.
        image_groups: [I] int32, all different.
        text_groups: [T] int32.
        folds: divides I.

    Returns:
        Means over the folds of `recall_metrics`.

    Raises:
        ValueError: the images do not divide into so many folds.

    Source: VSE-infinity (fold5 evaluation).
    """
    if folds < 1 or len(images) % folds:
        raise ValueError(f"{len(images)} images do not divide into {folds} folds")
    found = []
    for rows in np.split(np.arange(len(images)), folds):
        here, groups = np.isin(text_groups, image_groups[rows]), image_groups[rows]
        found.append(
            recall_metrics(
                best_ranks(images[rows], texts[here], groups, text_groups[here]),
                best_ranks(texts[here], images[rows], text_groups[here], groups),
            )
        )
    return {name: float(np.mean([metrics[name] for metrics in found])) for name in found[0]}


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
    result = jax.lax.map(lambda slab: function(*slab), tuple(stacked))
    return result.reshape(slabs * rows, *result.shape[2:])[:num_queries]


def _similarities(queries, candidates):
    return jnp.matmul(
        queries, candidates.T, precision="highest", preferred_element_type=jnp.float32
    )


@functools.partial(jax.jit, static_argnames="slabs")
def _best_ranks(queries, candidates, query_groups, candidate_groups, *, slabs):
    def ranks_of(queries, query_groups):
        scores = _similarities(queries, candidates)
        right = query_groups[:, None] == candidate_groups[None, :]
        best = jnp.max(scores, axis=1, where=right, initial=-jnp.inf)
        # "not smaller" instead of "larger or equal": true for ties, and true wherever there is a
        # NaN.
        return jnp.sum(~right & ~(scores < best[:, None]), axis=1, dtype=jnp.int32)

    return _map_slabs(ranks_of, slabs, queries, query_groups)


@functools.partial(jax.jit, static_argnames=("top_k", "slabs"))
def _top_candidates(queries, candidates, *, top_k, slabs):
    return _map_slabs(
        lambda slab: jax.lax.top_k(_similarities(slab, candidates), top_k)[1], slabs, queries
    )
