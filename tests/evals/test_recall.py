import jax
import numpy as np
import pytest

from tests.paths import DATA
from vlmo_jax.evals import recall

OFFICIAL = DATA / "siblings" / "retrieval_metrics.npz"


def brute_force_ranks(queries, candidates, query_groups, candidate_groups):
    ranks = []
    for query, group in zip(queries, query_groups):
        scores = candidates @ query
        right = candidate_groups == group
        ranks.append(int(np.sum(scores[~right] >= scores[right].max())))
    return ranks


def expected_of_orders(scores, right, cutoffs, draws=4000):
    """Mean rank and recalls of a query over random orders of what ties."""
    rng = np.random.default_rng(0)
    ranks = np.array(
        [np.argmax(right[np.lexsort((rng.random(len(scores)), -scores))]) for _ in range(draws)]
    )
    return ranks.mean(), [np.mean(ranks < cutoff) for cutoff in cutoffs]


@pytest.mark.parametrize("slab_entries", [1, 50, 64, 10**6])
def test_ranks_equal_brute_force_with_ties_and_several_captions(slab_entries):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(7), [1, 3, 2, 1, 4, 1, 1])
    # Small integers tie often and are exact in any order of summation.
    image = rng.integers(-1, 2, (7, 4)).astype(np.float32)
    text = rng.integers(-1, 2, (13, 4)).astype(np.float32)
    to_text = recall.best_ranks(image, text, np.arange(7), groups, slab_entries=slab_entries)
    to_image = recall.best_ranks(text, image, groups, np.arange(7), slab_entries=slab_entries)
    assert to_text.worst.tolist() == brute_force_ranks(image, text, np.arange(7), groups)
    assert to_image.worst.tolist() == brute_force_ranks(text, image, groups, np.arange(7))


def test_ties_count_as_a_random_order_of_them():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(7), [1, 3, 2, 1, 4, 1, 1])
    image = rng.integers(0, 2, (7, 2)).astype(np.float32)
    text = rng.integers(0, 2, (13, 2)).astype(np.float32)
    ranks = recall.best_ranks(image, text, np.arange(7), groups)
    assert np.count_nonzero(ranks.tied) > 3 and np.any(ranks.right > 1)
    for row in range(7):
        mean, recalls = expected_of_orders(text @ image[row], groups == row, (1, 2, 5))
        assert ranks.expected[row] == pytest.approx(mean, abs=0.3)
        ours = [ranks.hits(cutoff)[row] for cutoff in (1, 2, 5)]
        assert ours == pytest.approx(recalls, abs=0.04)


def test_a_constant_model_has_the_recall_of_chance_and_a_broken_one_ranks_last():
    same, groups = np.ones((6, 3), np.float32), np.arange(6)
    ranks = recall.best_ranks(same, same, groups, groups)
    assert ranks.worst.tolist() == [5] * 6 and ranks.expected.tolist() == [2.5] * 6
    metrics = recall.recall_metrics(ranks, ranks)
    for cutoff in recall.CUTOFFS:
        chance = recall.chance_recall([1], 6, cutoff)
        assert metrics[f"image_to_text_recall_at_{cutoff}"] == pytest.approx(chance)
    broken = recall.best_ranks(same * np.nan, same * np.nan, groups, groups)
    assert broken.expected.tolist() == [5] * 6
    assert broken.hits(1).tolist() == [0] * 6 and broken.hits(6).tolist() == [1] * 6


def largest_array(jaxpr):
    """Bytes of the largest array of a program, those of what it calls included."""
    own = [v.aval.size * v.aval.dtype.itemsize for e in jaxpr.eqns for v in e.outvars]
    parts = [part for e in jaxpr.eqns for part in e.params.values() if hasattr(part, "jaxpr")]
    return max([*own, *(largest_array(part.jaxpr) for part in parts)], default=0)


def test_a_million_by_a_million_is_never_held():
    side, width = 10**6, 768
    vectors = jax.ShapeDtypeStruct((side, width), np.float32)
    groups = jax.ShapeDtypeStruct((side,), np.int32)
    slabs = recall._slabs(side, side, recall.SLAB_ENTRIES)
    programs = [
        jax.make_jaxpr(lambda *a: recall._best_ranks(*a, slabs=slabs))(
            vectors, vectors, groups, groups
        ),
        jax.make_jaxpr(lambda *a: recall._top_candidates(*a, top_k=10, slabs=slabs))(
            vectors, vectors
        ),
    ]
    for program in programs:
        # the vectors themselves, padded to whole slabs; a table of similarities has 4 TB
        assert largest_array(program.jaxpr) < 1.05 * 4 * side * width


@pytest.mark.parametrize("slab_entries", [1, 40, 10**6])
def test_top_candidates_equal_a_stable_sort(slab_entries):
    rng = np.random.default_rng(1)
    queries, candidates = rng.integers(-1, 2, (9, 4)), rng.integers(-1, 2, (11, 4))
    top = recall.top_candidates(
        queries.astype(np.float32), candidates.astype(np.float32), 5, slab_entries=slab_entries
    )
    np.testing.assert_array_equal(
        top.rows, np.argsort(-(queries @ candidates.T), axis=1, kind="stable")[:, :5]
    )
    np.testing.assert_array_equal(
        top.scores, np.take_along_axis(queries @ candidates.T, top.rows, axis=1)
    )


@pytest.mark.parametrize("case", range(3))
def test_official_evaluation_code(case):
    """Scores and metrics of the evaluation functions of ALBEF and VSE-infinity, five captions an
    image.
    """
    with np.load(OFFICIAL) as arrays:
        official = {
            name.split("/")[1]: arrays[name] for name in arrays if name.startswith(f"case{case}/")
        }
    scores, groups = official["scores_i2t"], official["txt2img"]
    images, texts = np.arange(len(scores)), np.eye(len(groups), dtype=np.float32)
    to_text = recall.best_ranks(scores, texts, images, groups)
    np.testing.assert_array_equal(to_text.expected, official["vse_i2t_ranks"])
    np.testing.assert_array_equal(
        recall.best_ranks(texts, scores, groups, images).expected, official["vse_t2i_ranks"]
    )
    np.testing.assert_array_equal(
        recall.top_candidates(scores, texts, 1).rows[:, 0], official["vse_i2t_top1"]
    )
    np.testing.assert_array_equal(
        recall.top_candidates(texts, scores, 1).rows[:, 0], official["vse_t2i_top1"]
    )

    vse = recall.recall_metrics(
        *(recall.Ranks.without_ties(official[f"vse_{way}_ranks"]) for way in ("i2t", "t2i"))
    )
    for way, vector in (
        ("image_to_text", official["vse_i2t"]),
        ("text_to_image", official["vse_t2i"]),
    ):
        ours = [100 * vse[f"{way}_recall_at_{k}"] for k in (1, 5, 10)] + [vse[f"{way}_median_rank"]]
        np.testing.assert_allclose(ours, vector[:4], rtol=1e-6)
    to_image = recall.best_ranks(
        official["scores_t2i"], np.eye(len(scores), dtype=np.float32), groups, images
    )
    albef = recall.recall_metrics(to_text, to_image)
    ours = [
        100 * albef[f"{way}_recall_at_{k}"]
        for way in ("image_to_text", "text_to_image")
        for k in (1, 5, 10)
    ]
    np.testing.assert_allclose(ours, official["albef"][[0, 1, 2, 4, 5, 6]], rtol=1e-6)
    np.testing.assert_allclose(100 * albef["mean_recall"], official["albef"][8], rtol=1e-6)


def test_reranked_ranks():
    top_right = np.array(
        [[False, True, False], [False, True, True], [False, False, False], [True, False, False]]
    )
    scores = np.array([[3, 2, 1], [1, 0, 9], [1, 2, 3], [1, 1, np.nan]], np.float32)
    # Beaten by one; best of two right ones; right one outside keeps its rank; tie and NaN count
    # against.
    reranked = recall.reranked_ranks(
        recall.Ranks.without_ties(np.array([0, 1, 8, 0])), top_right, scores
    )
    np.testing.assert_array_equal(reranked.worst, [1, 0, 8, 2])
    np.testing.assert_array_equal(reranked.expected, [1, 0, 8, 1.5])


def test_chance_recall_is_that_of_random_orders():
    assert recall.chance_recall([1, 1], 1892, 1) == pytest.approx(1 / 1892)
    assert recall.chance_recall([1], 3, 10) == 1.0
    rng = np.random.default_rng(0)
    hits = [np.any(rng.permutation(12)[:3] < 2) for _ in range(4000)]
    assert recall.chance_recall([2], 12, 3) == pytest.approx(np.mean(hits), abs=0.03)
