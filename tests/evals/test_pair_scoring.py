"""Retrieval by scoring every pair: the ranks are those of vectors with the same scores."""

import jax
import numpy as np
import pytest

from tests.evals import retrieval_case as case
from vlmo_jax.evals import pair_scoring, recall
from vlmo_jax.evals.folds import both_ranks, both_scored_ranks, split_folds
from vlmo_jax.evals.pair_scoring import AllPairs, PairScoringEvaluator
from vlmo_jax.evals.retrieval_predictions import retrieval_predictions
from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.parallel import sharding


def folds_of(groups, count):
    return split_folds(np.arange(max(groups) + 1), np.asarray(groups), count)


@pytest.mark.parametrize("hosts, num_folds, batch", [(1, 1, 4), (2, 1, 4), (2, 3, 2), (1, 3, 8)])
def test_every_pair_of_a_fold_comes_once_and_with_its_own_image(hosts, num_folds, batch):
    groups = [0, 0, 1, 2, 3, 3, 4, 4, 4, 5]
    folds = folds_of(groups, num_folds)
    plan = AllPairs(folds, num_images=6, num_texts=10, batch_size=batch, host_count=hosts)
    assert len(plan) == sum(len(f.images) * len(f.texts) for f in folds)
    tokens, local = {"token_ids": np.arange(10)[:, None]}, batch // hosts
    scores, seen = np.full(len(plan), np.nan, np.float32), 0
    for host in range(hosts):
        starts = range(host * local, 6 + batch, batch)
        blocks = [
            {"image": np.arange(first, first + local), "index": np.arange(local)}
            for first in list(starts)[: -(-6 // batch)]
        ]
        for made in plan.batches(blocks, tokens, host):
            assert len(made["image"]) == local and set(made) == {
                "image",
                "token_ids",
                "index",
                "valid",
            }
            valid = made["valid"]
            seen += valid.sum()
            pair = 100 * made["image"] + made["token_ids"][:, 0]
            scores[made["index"][valid]] = pair[valid]
    assert seen == len(plan)
    wanted = 100 * np.arange(6)[:, None] + np.arange(10)
    inside = np.zeros((6, 10), bool)
    for fold in folds:
        inside[np.ix_(*fold)] = True
    np.testing.assert_array_equal(plan.matrix(scores), np.where(inside, wanted, -np.inf))


def test_ranks_by_scores_are_those_by_vectors():
    rng = np.random.default_rng(0)
    images, texts = rng.integers(-2, 3, (6, 4)), rng.integers(-2, 3, (12, 4))
    images, texts = images.astype(np.float32), texts.astype(np.float32)
    groups = np.arange(6), np.repeat(np.arange(6), 2)
    for count in (1, 3):
        folds = split_folds(*groups, count)
        by_vectors = both_ranks(images, texts, *groups, folds)
        by_scores = both_scored_ranks(images @ texts.T, *groups, folds)
        jax.tree.map(np.testing.assert_array_equal, by_vectors, by_scores)
    slabs = recall.scored_ranks(images @ texts.T, *groups, slab_entries=24)
    jax.tree.map(np.testing.assert_array_equal, slabs, by_all(images, texts, groups))
    found = recall.top_scored(images @ texts.T, 5)
    jax.tree.map(np.testing.assert_array_equal, found, recall.top_candidates(images, texts, 5))


def by_all(images, texts, groups):
    return recall.best_ranks(images, texts, *groups)


def test_a_split_is_searched_by_all_pairs(capsys):
    params = case.make_params(load_tokenizer("emoji").vocab_size)
    mesh = sharding.make_mesh()
    vectors = case.make_evaluator(mesh)
    arguments = dict(flops_of_pair=10**12)
    pairs = case.make_evaluator(mesh, kind=PairScoringEvaluator, **arguments)
    encoders = case.ENCODERS._replace(encode_image=None, encode_text=None)
    metrics, search = pairs.search(encoders, params, 0)
    assert "each in a pass through the fused model" in capsys.readouterr().out
    # The stand-in matches by another product than it searches by.
    image = np.concatenate([np.asarray(case.encode_image(params, b)) for b in vectors._images()])
    text = case.encode_text(params, vectors._tokens())[: len(pairs.texts)]
    scores = image[: pairs.num_records] @ params[2] @ np.asarray(text).T
    np.testing.assert_allclose(search.to_text.similar.scores, scores, atol=1e-4)
    assert (
        metrics["mean_recall"]
        == recall.recall_metrics(
            *both_scored_ranks(scores, np.arange(13), pairs.text_image, pairs.folds)
        )["mean_recall"]
    )
    assert "every pair is scored" in pairs.statement()
    examples = pairs.examples(search)
    assert len(examples.captions) == 8 and len(examples.images) == 4
    lines = list(retrieval_predictions(pairs, search))
    assert len(lines) == 13 + len(pairs.texts) and all(line["top"] for line in lines)


def test_the_time_left_is_told_where_it_is_long(monkeypatch):
    clock = iter(np.arange(0, 10_000, 100.0))
    monkeypatch.setattr(pair_scoring.time, "perf_counter", lambda: next(clock))
    said = []
    assert list(pair_scoring.tell_time_left(range(200), 200, said.append)) == list(range(200))
    assert said == ["about 1 h 21 min"]
