import dataclasses
import functools
import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.evals import retrieval_case as case
from tests.paths import ROOT
from vlmo_jax.evals import protocols, recall, retrieval
from vlmo_jax.evals.retrieval_predictions import retrieval_predictions
from vlmo_jax.evals.retrieval_search import best_candidates
from vlmo_jax.input.evaluation import image_batches, text_batches
from vlmo_jax.input.plain_images import EvalImages, ImageRows
from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.parallel import sharding


@pytest.fixture(scope="module")
def params():
    return case.make_params(load_tokenizer("emoji").vocab_size)


def mesh_of(num_devices):
    return sharding.make_mesh(devices=jax.devices()[:num_devices])


def scores_at_once(params):
    """Similarities and matching log-odds [images, captions] of the whole split, without batches;
    and whose caption is whose.
    """
    source = case.make_source()
    texts = [text for record in source for text in record.texts]
    groups = np.array([row for row, record in enumerate(source) for _ in record.texts])
    image = next(image_batches(source, image_size=case.SIZE, batch_size=len(source)))["image"]
    tokens = next(
        text_batches(texts, load_tokenizer("emoji"), text_length=case.LENGTH, batch_size=len(texts))
    )
    tokens = {name: tokens[name] for name in ("token_ids", "token_mask")}
    similarity = case.encode_image(params, {"image": image}) @ case.encode_text(params, tokens).T
    log_odds = [
        case.match(params, {"image": np.repeat(one[None], len(texts), axis=0), **tokens})
        for one in image
    ]
    return np.asarray(similarity), np.asarray(log_odds), groups


def metrics_of(scores, groups):
    def rank(row, right):
        return np.sum(row[~right] >= row[right].max())

    to_text = [rank(row, groups == image) for image, row in enumerate(scores)]
    to_image = [
        rank(column, np.arange(len(scores)) == image) for column, image in zip(scores.T, groups)
    ]
    return recall.recall_metrics(
        *(recall.Ranks.without_ties(np.array(ranks)) for ranks in (to_text, to_image))
    )


def test_metrics_equal_brute_force_and_reranking_all_sorts_by_match(params, capsys):
    evaluator = case.make_evaluator(mesh_of(1))
    metrics = evaluator.evaluate(case.ENCODERS, params, 7, rerank_top_k=1000)
    similarity, log_odds, groups = scores_at_once(params)
    reranked = {f"reranked_{name}": value for name, value in metrics_of(log_odds, groups).items()}
    assert metrics == metrics_of(similarity, groups) | reranked
    printed = capsys.readouterr().out
    assert (
        "drawings at step 7: 13 images, 25 captions (1 to 3 an image, the best of them counts)"
        in printed
    )
    assert "protocol all_captions" in printed and "text to image 7.69 / 38.5 / 76.9 %" in printed


def test_reranking_the_top_keeps_the_rest_in_place(params):
    similarity, log_odds, groups = scores_at_once(params)
    top = 4
    mixed = np.full((2, *similarity.shape), np.nan)
    for scores, sim, odds in (
        (mixed[0], similarity, log_odds),
        (mixed[1].T, similarity.T, log_odds.T),
    ):
        for row in range(len(scores)):
            order = np.argsort(-sim[row], kind="stable")
            order[:top] = order[:top][np.argsort(-odds[row][order[:top]], kind="stable")]
            scores[row][order] = -np.arange(len(order))
    expected = metrics_of(mixed[0], groups), metrics_of(mixed[1], groups)
    metrics = case.make_evaluator(mesh_of(1)).evaluate(case.ENCODERS, params, 0, rerank_top_k=top)
    for way, wanted in zip(("image_to_text", "text_to_image"), expected):
        for name in ("recall_at_1", "recall_at_5", "recall_at_10", "median_rank"):
            assert metrics[f"reranked_{way}_{name}"] == wanted[f"{way}_{name}"]


@pytest.mark.parametrize("weight", [1.0, 0.05])
def test_added_scores_are_those_of_both(params, weight):
    similarity, log_odds, groups = scores_at_once(params)
    top = 4
    both = np.full((2, *similarity.shape), np.nan)
    for scores, sim, odds in (
        (both[0], similarity, log_odds),
        (both[1].T, similarity.T, log_odds.T),
    ):
        for row in range(len(scores)):
            best = np.argsort(-sim[row], kind="stable")[:top]
            scores[row] = sim[row] - 100  # as the official code
            scores[row][best] += 100 + weight * odds[row][best]
    expected = metrics_of(both[0], groups), metrics_of(both[1], groups)
    evaluator = case.make_evaluator(mesh_of(1), rerank="add", match_weight=weight)
    metrics = evaluator.evaluate(case.ENCODERS, params, 0, top)
    for way, wanted in zip(("image_to_text", "text_to_image"), expected):
        for k in (1, 5, 10):
            name = f"{way}_recall_at_{k}"
            assert metrics[f"reranked_{name}"] == pytest.approx(wanted[name])


def test_folds_are_searched_alone_and_the_rows_found_are_those_of_the_split(params, monkeypatch):
    monkeypatch.setitem(protocols.PROTOCOLS, "halves", protocols.Protocol("halves", 1, 12, folds=2))
    source = case.make_source()[:12]
    whole = case.make_evaluator(mesh_of(1), list(source), protocol="halves")
    metrics, search = whole.search(case.ENCODERS, params, 0, rerank_top_k=3)
    halves = [
        case.make_evaluator(mesh_of(1), list(half), protocol="first_caption").search(
            case.ENCODERS, params, 0, rerank_top_k=3
        )
        for half in (source[:6], source[6:])
    ]
    for name, value in metrics.items():
        assert value == pytest.approx(np.mean([half[0][name] for half in halves])), name
    for place, (_, half) in enumerate(halves):
        rows = slice(6 * place, 6 * place + 6)
        np.testing.assert_array_equal(
            search.to_text.matched.rows[rows], half.to_text.matched.rows + 6 * place
        )
    found = best_candidates(search, whole.folds, 100).to_image.rows
    assert found.shape == (12, 6) and (found // 6 == np.arange(12)[:, None] // 6).all()


def test_predictions_say_where_each_query_comes(params):
    evaluator = case.make_evaluator(mesh_of(1))
    metrics, search = evaluator.search(case.ENCODERS, params, 0, rerank_top_k=4)
    lines = list(retrieval_predictions(evaluator, search))
    assert [line["way"] for line in lines] == ["image_to_text"] * 13 + ["text_to_image"] * 25
    for way in ("image_to_text", "text_to_image"):
        own = [line for line in lines if line["way"] == way]
        for prefix in ("", "reranked_"):
            hits = np.mean([line[f"{prefix}rank"] < 2 for line in own])
            assert hits == pytest.approx(metrics[f"{prefix}{way}_recall_at_1"])
        for line in own:
            place = next((n for n, top in enumerate(line["top"]) if top["id"] in line["right"]), 99)
            assert line["rank"] == place + 1 or place == 99 and line["rank"] > 10
            assert len(line["top"]) == 10 and len(line["reranked_top"]) == 4
    assert lines[1]["right"] == ["drawing 1#0", "drawing 1#1"]
    assert lines[13 + 2]["query"] == "drawing 1#1" and lines[13 + 2]["right"] == ["drawing 1"]
    assert lines[13 + 2]["text"] == case.make_source()[1].texts[1]


def test_eight_devices_equal_one(params):
    one, eight = mesh_of(1), mesh_of(8)
    expected = case.make_evaluator(one).evaluate(case.ENCODERS, params, 0, 4)
    with jax.set_mesh(eight):
        assert case.make_evaluator(eight).evaluate(case.ENCODERS, params, 0, 4) == expected
    four_by_two = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    assert (
        case.make_evaluator(four_by_two, batch_size=20).evaluate(case.ENCODERS, params, 0, 4)
        == expected
    )


def test_two_processes_equal_one(params):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.evals.retrieval_case", str(port)]
    options = {
        "stdout": subprocess.PIPE,
        "text": True,
        "env": environment,
        "cwd": ROOT,
    }
    processes = [subprocess.Popen([*command, str(number)], **options) for number in range(2)]
    try:
        outputs = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    results = [
        json.loads(line.split(" ", 1)[1])
        for text in outputs
        for line in text.splitlines()
        if line.startswith("RESULT")
    ]
    expected, examples = case.make_evaluator(mesh_of(1)).evaluate_with_examples(
        case.ENCODERS, params, 0, 4
    )
    assert results == [[expected, examples.image_captions]] * 2
    assert ["drawings at step" in text for text in outputs] == [True, False]


def test_images_are_decoded_once_unless_they_are_many(params, monkeypatch):
    source = case.make_source()
    evaluator = case.make_evaluator(mesh_of(1), source)
    source.reads = 0
    kept = [evaluator.evaluate(case.ENCODERS, params, step, 4) for step in range(2)]
    assert source.reads == case.NUM_IMAGES
    monkeypatch.setattr(retrieval, "KEPT_IMAGE_BYTES", 0)
    evaluator = case.make_evaluator(mesh_of(1), source)
    source.reads = 0
    assert [evaluator.evaluate(case.ENCODERS, params, 0, 4)] * 2 == kept
    assert source.reads == 2 * case.NUM_IMAGES


def test_examples_are_the_best_of_the_split(params):
    _, examples = case.make_evaluator(mesh_of(1)).evaluate_with_examples(
        case.ENCODERS, params, 0, num_captions=100, num_images=3, top_k=5
    )
    similarity, _, groups = scores_at_once(params)
    pixels = next(
        image_batches(case.make_source(), image_size=case.SIZE, batch_size=case.NUM_IMAGES)
    )["image"]
    best = np.argsort(-similarity.T, axis=1, kind="stable")[:, :5]
    assert len(examples.captions) == len(groups)
    np.testing.assert_array_equal(examples.caption_images, pixels[best])
    np.testing.assert_array_equal(examples.caption_correct, best == groups[:, None])
    for image, captions, correct in zip(
        examples.images, examples.image_captions, examples.image_correct
    ):
        row = next(row for row in range(case.NUM_IMAGES) if (pixels[row] == image).all())
        best = np.argsort(-similarity[row], kind="stable")[:5]
        assert captions == [examples.captions[text] for text in best]
        assert correct.tolist() == (groups[best] == row).tolist()


def test_failures_name_the_evaluator_and_the_step(params):
    with pytest.raises(
        RuntimeError, match="'drawings' failed at step 12: 13 of 13 image embeddings are not finite"
    ):
        case.make_evaluator(mesh_of(1)).evaluate(
            case.ENCODERS, [params[0] * np.nan, *params[1:]], 12, 4
        )

    def broken(params, batch):
        raise TypeError("no such thing")

    with pytest.raises(RuntimeError, match="'drawings' failed at step 3: no such thing"):
        case.make_evaluator(mesh_of(1)).evaluate(case.ENCODERS._replace(match=broken), params, 3, 4)


def test_captions_that_are_cut_are_counted():
    source = case.make_source()
    source[2:3] = [dataclasses.replace(source[2], texts=("tree " * 20,))]
    assert (
        "; 1 captions are cut at 12 tokens;" in case.make_evaluator(mesh_of(1), source).statement()
    )


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"batch_size": 12},
            "'drawings': batch_size=12 does not divide over 8 batch shards; use a multiple of 8",
        ),
        ({"protocol": "coco"}, "protocol='coco' is unknown; use one of .*all_captions"),
        ({"protocol": "flickr30k_karpathy_1k"}, "is about 1000 images and this split has 13"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        case.make_evaluator(mesh_of(8), **options)


def test_captionless_images_and_empty_splits_are_refused():
    source = case.make_source()
    source[3:4] = [dataclasses.replace(source[3], texts=())]
    with pytest.raises(ValueError, match="'drawings': image 'drawing 3' has 0 captions"):
        case.make_evaluator(mesh_of(1), source)
    with pytest.raises(ValueError, match="the split is empty"):
        retrieval.RetrievalEvaluator(
            [],
            load_tokenizer("emoji"),
            name="none",
            images=functools.partial(EvalImages, rows=ImageRows(8)),
            text_length=8,
            batch_size=8,
            mesh=mesh_of(1),
        )
