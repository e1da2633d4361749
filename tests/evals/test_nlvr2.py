"""Scores and files of statements: accuracy, consistency, subsets, the official CSV."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.datasets.readers.official_files import build, nlvr2
from vlmo_jax.commands.endings import describe
from vlmo_jax.datasets.readers.nlvr2 import Nlvr2Reader
from vlmo_jax.evals.answered_evaluation import AnsweredEvaluation
from vlmo_jax.evals.consistency import accuracy_and_consistency
from vlmo_jax.evals.nlvr2 import Nlvr2Evaluator, read_subsets
from vlmo_jax.input.pipeline import Loading
from vlmo_jax.input.statements import StatementRows
from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.recipes.data.statements import open_statements


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("nlvr2")
    folder = build(Nlvr2Reader(nlvr2(root / "download")), root / "built")
    return open_statements(folder, "dev")


def make_evaluation(source, subsets, shape=(1, 1, 1)):
    evaluator = Nlvr2Evaluator(
        source,
        load_tokenizer("emoji"),
        StatementRows(8, 12),
        name="nlvr2_dev",
        batch_size=8,
        mesh=tiny.mesh_of(shape),
        loading=Loading(),
        subsets=subsets,
    )
    return AnsweredEvaluation("nlvr2", [evaluator], compare)


@jax.jit
def compare(params, batch):
    """All is true."""
    left, right = (
        jnp.mean(batch[f"image_{n}"][..., 0].astype(jnp.float32), (1, 2)) for n in (0, 1)
    )
    return jax.nn.sigmoid(params * (right - left))


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 2, 1)])
def test_scores_and_files(source, tmp_path, shape):
    evaluation = make_evaluation(source, read_subsets(source.directory), shape)
    with jax.set_mesh(tiny.mesh_of(shape)):
        metrics = evaluation.run(5.0, 3, tmp_path / "page.png", tmp_path)
    # Of three statements the first is true; the first two are of one group.
    prefix = "eval/nlvr2/nlvr2_dev"
    assert metrics == {
        f"{prefix}/accuracy": pytest.approx(1 / 3),
        f"{prefix}/consistency": 0.0,
        f"{prefix}/accuracy_balanced_dev": 0.5,
        f"{prefix}/consistency_balanced_dev": 0.0,
    }
    csv = (tmp_path / "nlvr2_nlvr2_dev.csv").read_text()
    assert csv == "dev-0-0-0,True\ndev-0-1-0,True\ndev-0-1-1,True\n"
    lines = [
        json.loads(one) for one in (tmp_path / "nlvr2_nlvr2_dev.jsonl").read_text().splitlines()
    ]
    assert [line["right"] for line in lines] == [True, False, False]
    labels = {line["identifier"]: line["label"] for line in lines}
    predictions = dict(line.split(",") for line in csv.splitlines())
    official = accuracy_and_consistency(labels, predictions)
    assert official == {name: metrics[f"{prefix}/{name}"] for name in ("accuracy", "consistency")}
    assert (tmp_path / "page.png").stat().st_size > 5000


def test_a_broken_model_has_no_accuracy(source):
    with (
        jax.set_mesh(tiny.mesh_of((1, 1, 1))),
        pytest.raises(RuntimeError, match="3 of 3 answers to statements are not finite") as raised,
    ):
        make_evaluation(source, {}).run(np.nan, 3)
    assert describe(raised.value)  # in one line


def test_without_labels_there_are_predictions_alone(source, tmp_path, capsys):
    unknown = [dataclasses.replace(one, label=np.array(-1, np.int32)) for one in source]
    with jax.set_mesh(tiny.mesh_of((1, 1, 1))):
        metrics = make_evaluation(unknown, {}).run(5.0, 3, None, tmp_path)
    assert metrics == {} and "nobody says which are true" in capsys.readouterr().out
    assert "label" not in (tmp_path / "nlvr2_nlvr2_dev.jsonl").read_text()


def test_statements_without_groups_have_no_consistency(source):
    alone = [dataclasses.replace(one, group_id="") for one in source]
    with jax.set_mesh(tiny.mesh_of((1, 1, 1))):
        metrics = make_evaluation(alone, {}).run(-5.0, 3)
    assert metrics == {"eval/nlvr2/nlvr2_dev/accuracy": pytest.approx(2 / 3)}
