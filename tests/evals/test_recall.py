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


@pytest.mark.parametrize("slab_entries", [1, 50, 64, 10**6])
def test_ranks_equal_brute_force_with_ties_and_several_captions(slab_entries):
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(7), [1, 3, 2, 1, 4, 1, 1])
    # Small integers tie often and are exact in any order of summation.
    image = rng.integers(-1, 2, (7, 4)).astype(np.float32)
    text = rng.integers(-1, 2, (13, 4)).astype(np.float32)
    to_text = recall.best_ranks(image, text, np.arange(7), groups, slab_entries=slab_entries)
    to_image = recall.best_ranks(text, image, groups, np.arange(7), slab_entries=slab_entries)
    assert to_text.tolist() == brute_force_ranks(image, text, np.arange(7), groups)
    assert to_image.tolist() == brute_force_ranks(text, image, groups, np.arange(7))


def test_a_constant_or_broken_model_ranks_last():
    for value in (1.0, np.nan):
        same = np.full((6, 3), value, np.float32)
        assert recall.best_ranks(same, same, np.arange(6), np.arange(6)).tolist() == [5] * 6


@pytest.mark.parametrize("slab_entries", [1, 40, 10**6])
def test_top_candidates_equal_a_stable_sort(slab_entries):
    rng = np.random.default_rng(1)
    queries, candidates = rng.integers(-1, 2, (9, 4)), rng.integers(-1, 2, (11, 4))
    top = recall.top_candidates(
        queries.astype(np.float32), candidates.astype(np.float32), 5, slab_entries=slab_entries
    )
    np.testing.assert_array_equal(
        top, np.argsort(-(queries @ candidates.T), axis=1, kind="stable")[:, :5]
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
    np.testing.assert_array_equal(to_text, official["vse_i2t_ranks"])
    np.testing.assert_array_equal(
        recall.best_ranks(texts, scores, groups, images), official["vse_t2i_ranks"]
    )
    np.testing.assert_array_equal(
        recall.top_candidates(scores, texts, 1)[:, 0], official["vse_i2t_top1"]
    )
    np.testing.assert_array_equal(
        recall.top_candidates(texts, scores, 1)[:, 0], official["vse_t2i_top1"]
    )

    vse = recall.recall_metrics(official["vse_i2t_ranks"], official["vse_t2i_ranks"])
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
    np.testing.assert_array_equal(
        recall.reranked_ranks(np.array([0, 1, 8, 0]), top_right, scores), [1, 0, 8, 2]
    )


def test_chance_recall_is_that_of_random_orders():
    assert recall.chance_recall([1, 1], 1892, 1) == pytest.approx(1 / 1892)
    assert recall.chance_recall([1], 3, 10) == 1.0
    rng = np.random.default_rng(0)
    hits = [np.any(rng.permutation(12)[:3] < 2) for _ in range(4000)]
    assert recall.chance_recall([2], 12, 3) == pytest.approx(np.mean(hits), abs=0.03)
