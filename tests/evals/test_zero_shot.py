"""Zero-shot classification: counts that are right, ties of texts, tables, pages and files."""

import json

import jax
import numpy as np
import pytest

from tests import tiny
from tests.evals import retrieval_case as case
from vlmo_jax.evals import zero_shot
from vlmo_jax.evals.answered_evaluation import AnsweredEvaluation
from vlmo_jax.evals.class_scores import class_metrics, class_table, format_table
from vlmo_jax.evals.zero_shot import Classes, ZeroShotEvaluator, class_texts, classify
from vlmo_jax.input.pipeline import Loading
from vlmo_jax.input.plain_images import EvalImages, ImageRows, thumbnail
from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.tasks.zero_shot import average

CLASSES = Classes(["cat", "dogs"], [("cat",), ("dog", "dogs")], ("{}", "a {}"))


def test_texts_of_a_class_are_averaged():
    texts, counts = class_texts(CLASSES)
    assert texts == ["cat", "a cat", "dog", "a dog", "dogs", "a dogs"] and counts == [2, 4]
    vectors = np.random.default_rng(0).normal(size=(6, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = average(vectors, counts)
    for row, part in zip(found, (vectors[:2], vectors[2:])):
        np.testing.assert_allclose(row, part.mean(0) / np.linalg.norm(part.mean(0)), atol=1e-12)


def test_counts_of_a_case_by_hand():
    prototypes = np.eye(7)
    truth = np.array([0, 0, 0, 1, 2, 2])
    nearest = np.array([0, 0, 1, 1, 0, 2])
    vectors = 0.9 * prototypes[nearest]
    vectors[4, 2] = 0.8  # right among the first five
    found = classify(vectors, prototypes, truth)
    metrics = class_metrics(found)
    assert metrics == pytest.approx(
        dict(
            accuracy=4 / 6,
            # Of equal scores the first come first: image 2 is of class 0, which is among them.
            accuracy_top_5=1.0,
            class_accuracy=(2 / 3 + 1 + 1 / 2) / 3,
            baseline_accuracy=1 / 2,
        )
    )
    table = class_table([f"c{n}" for n in range(7)], found.confusion)
    assert table[0] == {
        "class": "c0",
        "images": 3,
        "accuracy": 2 / 3,
        "taken_for": "c1",
        "taken_for_images": 1,
    }
    assert [row["class"] for row in table] == ["c0", "c2", "c1"]
    assert format_table(table, limit=1)[-1] == "  and 2 more classes"
    assert "accuracy_top_5" not in class_metrics(classify(vectors, prototypes[:3], truth))


def test_many_images_are_classified_part_by_part(monkeypatch):
    rng = np.random.default_rng(0)
    vectors, prototypes, truth = (
        rng.normal(size=(13, 4)),
        rng.normal(size=(6, 4)),
        np.arange(13) % 6,
    )
    whole = classify(vectors, prototypes, truth)
    monkeypatch.setattr(zero_shot, "SLAB_ENTRIES", 4 * 6 + 1)
    for one, other in zip(classify(vectors, prototypes, truth), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def evaluator(mesh, truth, classes=CLASSES):
    return ZeroShotEvaluator(
        case.make_source(),
        truth,
        classes,
        load_tokenizer("emoji"),
        name="drawings",
        images=lambda source: EvalImages(source, ImageRows(case.SIZE)),
        text_length=case.LENGTH,
        batch_size=8,
        mesh=mesh,
        loading=Loading(num_workers=0, num_threads=1),
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 2, 1)])
def test_a_split_is_scored_drawn_and_written(tmp_path, shape, capsys):
    mesh = tiny.mesh_of(shape)
    params = case.make_params(load_tokenizer("emoji").vocab_size)
    truth = [row % 2 for row in range(case.NUM_IMAGES)]
    with jax.set_mesh(mesh):
        evaluation = AnsweredEvaluation("classes", [evaluator(mesh, truth)], case.ENCODERS)
        metrics = evaluation.run(params, 7, tmp_path / "page.png", tmp_path)
    texts, counts = class_texts(CLASSES)
    tokenizer = load_tokenizer("emoji")
    ids = [[tokenizer.begin_id, *tokenizer.encode(text).ids, tokenizer.end_id] for text in texts]
    vectors = np.stack([params[1][np.array(row)].sum(0) for row in ids])
    prototypes = average(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), counts)
    lines = [json.loads(line) for line in (tmp_path / "classes_drawings.jsonl").open()]
    assert [line["class"] for line in lines] == [CLASSES.labels[n] for n in truth]
    right = [line["top"][0][0] == line["class"] for line in lines]
    assert metrics["eval/classes/drawings/accuracy"] == pytest.approx(np.mean(right))
    assert metrics["eval/classes/drawings/baseline_accuracy"] == pytest.approx(7 / 13)
    pixels = thumbnail(case.make_source()[3].image, case.SIZE).reshape(-1) / 127.5 - 1
    vector = pixels @ params[0] / np.linalg.norm(pixels @ params[0])
    best = dict(lines[3]["top"])
    assert best["cat"] == pytest.approx(vector @ prototypes[0], abs=1e-5)
    assert best["dogs"] == pytest.approx(vector @ prototypes[1], abs=1e-5)
    assert (tmp_path / "page.png").stat().st_size > 1000
    assert "13 images of 2 classes, zero-shot with 2 templates" in capsys.readouterr().out
