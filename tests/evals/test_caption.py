"""The evaluation of captions: its metrics, files and page, of images with captions and without."""

import json

import jax
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.datasets.records import Record
from vlmo_jax.datasets.sources import open_source
from vlmo_jax.evals import caption_tokens as tokens
from vlmo_jax.evals.answered_evaluation import AnsweredEvaluation
from vlmo_jax.evals.caption import CaptionEvaluator, GreyImages
from vlmo_jax.input.pipeline import Loading
from vlmo_jax.input.plain_images import EvalImages, ImageRows
from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.tasks.beam_search import Written

LENGTH = 8


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("emoji")


@pytest.fixture(scope="module")
def records():
    found = [open_source("emoji", "unseen_artist")[row] for row in range(5)]
    found[3] = Record(found[3].image, (), (), "coco/12")
    found[4] = Record(found[4].image, (" ",), (), "coco/13")
    return found


def evaluator(records, tokenizer, maker=EvalImages):
    return CaptionEvaluator(
        records,
        tokenizer,
        maker(records, ImageRows(16)),
        name="drawings",
        batch_size=2,
        mesh=tiny.make_mesh(devices=jax.devices()[:1]),
        loading=Loading(num_workers=0, num_threads=1, prefetch=1),
    )


def saying(text, tokenizer, seen=None):
    """A captioner that says one thing of every image."""

    def write(params, batch):
        if seen is not None:
            seen.append(np.asarray(batch["image"]))
        rows = len(batch["image"])
        ids = [tokenizer.begin_id, *tokenizer.encode(text).ids, tokenizer.end_id]
        ids += [tokenizer.pad_id] * (LENGTH - len(ids))
        return Written(jax.numpy.tile(np.array(ids), (rows, 1)), jax.numpy.full(rows, -0.5))

    return write


def test_captions_are_scored_and_written(records, tokenizer, tmp_path, capsys):
    name = records[1].texts[0]
    evaluation = AnsweredEvaluation(
        "caption", [evaluator(records, tokenizer)], saying(name, tokenizer)
    )
    metrics = evaluation.run({}, 3, tmp_path / "page.png", tmp_path)
    assert metrics["eval/caption/drawings/exact_match"] == pytest.approx(1 / 3)
    assert metrics["eval/caption/drawings/baseline_exact_match"] == pytest.approx(1 / 3)
    assert metrics["eval/caption/drawings/cider"] > 1
    said = capsys.readouterr().out
    assert "2 of them without a caption of people and not scored; scored by " in said
    assert tokens.missing_for_java() in said
    results = json.loads((tmp_path / "caption_drawings_results.json").read_text())
    assert [row["image_id"] for row in results[3:]] == [12, 13]
    assert {row["caption"] for row in results} == {name}
    lines = (tmp_path / "caption_drawings.jsonl").read_text().splitlines()
    assert [json.loads(line).get("exact_match") for line in lines] == [
        False,
        True,
        False,
        None,
        None,
    ]
    assert (tmp_path / "page.png").stat().st_size > 1000


def test_a_split_without_captions_has_predictions_alone(records, tokenizer, capsys):
    found, _ = evaluator(records[3:], tokenizer).evaluate(saying("", tokenizer), {}, 0)
    assert found == {}
    assert "none has a caption of people" in capsys.readouterr().out
    evaluator(records, tokenizer).evaluate(saying("", tokenizer), {}, 0)
    assert "5 of the model's captions are empty" in capsys.readouterr().out


def test_the_blind_baseline_sees_grey(records, tokenizer):
    seen = []
    evaluator(records, tokenizer, GreyImages).evaluate(saying("a", tokenizer, seen), {}, 0)
    assert {int(v) for v in np.unique(np.concatenate(seen)[:5])} == {128}
