"""Captions that matching turns from wrong to right, and back."""

import jax
import numpy as np
import pytest

from tests.evals import retrieval_case as case
from vlmo_jax.evals.retrieval_search import Vectors
from vlmo_jax.evals.turned_queries import turned_queries
from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.parallel import sharding


@pytest.fixture(scope="module")
def found():
    evaluator = case.make_evaluator(sharding.make_mesh(devices=jax.devices()[:1]))
    params = case.make_params(load_tokenizer("emoji").vocab_size)
    params[2] = np.asarray(jax.random.normal(jax.random.key(11), params[2].shape))
    return evaluator, *evaluator.search(case.ENCODERS, params, 0, rerank_top_k=13)


def test_they_are_the_difference_of_both_recalls(found):
    evaluator, metrics, search = found
    turned = turned_queries(evaluator, search)
    before, after = (
        metrics[f"{prefix}text_to_image_recall_at_1"] * 25 for prefix in ("", "reranked_")
    )
    assert turned.num_mended - turned.num_spoiled == pytest.approx(after - before)
    assert turned.num_mended > 0 and turned.num_spoiled > 0


def test_one_image_of_each_pair_is_the_right_one_and_the_mended_come_first(found):
    evaluator, _, search = found
    turned = turned_queries(evaluator, search, num_mended=1, num_spoiled=1)
    np.testing.assert_array_equal(turned.correct, [[False, True], [True, False]])
    for caption, images, correct in zip(turned.captions, turned.images, turned.correct):
        own = evaluator.text_image[evaluator.texts.index(caption)]
        right, wrong = images[np.argmax(correct)], images[np.argmin(correct)]
        np.testing.assert_array_equal(right, evaluator.pixels(np.array([own]))[0])
        assert (wrong != right).any()


def test_nothing_is_shown_where_matching_agrees(found):
    evaluator, _, search = found
    dual = search.to_image.ranks
    best = evaluator.text_image[:, None]  # as if both put the right image first
    agreeing = search._replace(
        to_image=search.to_image._replace(
            similar=Vectors(
                np.eye(13, dtype=np.float32)[evaluator.text_image], np.eye(13, dtype=np.float32)
            ),
            ranks=dual,
            matched=search.to_image.matched._replace(rows=best),
        )
    )
    assert turned_queries(evaluator, agreeing) is None
