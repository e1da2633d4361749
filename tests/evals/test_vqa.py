"""Scores and files of questions: the official accuracy, the server's form, none without truth."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.datasets.readers.official_files import build, vqav2
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.examples import all_examples
from vlmo_jax.datasets.readers.vqav2 import VqaV2Reader
from vlmo_jax.evals.answered_evaluation import AnsweredEvaluation
from vlmo_jax.evals.vqa import VqaEvaluator
from vlmo_jax.evals.vqa_accuracy import question_accuracy
from vlmo_jax.evals.vqa_server import PartialAnswersError, whole_split, write_server_files
from vlmo_jax.input.answers import AnswerTargets
from vlmo_jax.input.pipeline import Loading
from vlmo_jax.input.questions import QuestionRows
from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.recipes.data.questions import open_questions
from vlmo_jax.tasks.vqa import Answers

ROWS = QuestionRows(8, 12, 2)
TARGETS = AnswerTargets(("2", "yes"))


@jax.jit
def answer(params, batch):
    """Likelier the second answer, the fewer tokens a question has."""
    length = jnp.sum(batch["token_mask"], axis=1)
    second = jax.nn.sigmoid((params - length).astype(jnp.float32))
    return Answers(*jax.lax.top_k(jnp.stack([1 - second, second], axis=1), 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("vqa")
    return build(VqaV2Reader(vqav2(root / "download")), root / "vqav2")


def make_evaluation(folder, *splits, shape=(1, 1, 1)):
    evaluators = []
    for split in splits:
        opened = open_questions(folder, split)
        examples = all_examples(opened)
        evaluators.append(
            VqaEvaluator(
                examples,
                load_tokenizer("emoji"),
                ROWS,
                TARGETS,
                name=f"vqav2_{split}",
                batch_size=8,
                mesh=tiny.mesh_of(shape),
                loading=Loading(),
                whole=whole_split(opened.directory, opened.split, len(examples)),
            )
        )
    return AnsweredEvaluation("vqa", evaluators, answer)


def test_scores_are_those_of_the_predictions_on_every_mesh(folder, tmp_path):
    found = []
    for number, shape in enumerate([(1, 1, 1), (8, 1, 1)]):
        evaluation = make_evaluation(folder, "train", shape=shape)
        with jax.set_mesh(tiny.mesh_of(shape)):
            found.append(
                evaluation.run(10.5, 7, tmp_path / "page.png", tmp_path / f"predictions{number}")
            )
    assert found[0] == found[1]
    lines = [
        json.loads(line)
        for line in (tmp_path / "predictions1" / "vqa_vqav2_train.jsonl").read_text().splitlines()
    ]
    assert len(lines) == len({line["question_id"] for line in lines}) >= 16
    assert {line["answer"] for line in lines} == {"2", "yes"}
    scores = [question_accuracy(line["answers"], line["answer"]) for line in lines]
    assert scores == [line["accuracy"] for line in lines] and 0 < np.mean(scores) < 1
    assert found[0]["eval/vqa/vqav2_train/accuracy"] == pytest.approx(np.mean(scores), abs=1e-4)
    by_id = {line["question_id"]: line for line in lines}
    # VLMo's validation leaves out what has no answer in the list.
    soft = [
        targets.get(TARGETS.answers.index(line["answer"]), 0.0)
        for line in lines
        if (targets := TARGETS.scores(line["answers"]))
    ]
    assert 0 < len(soft) < len(lines) and np.mean(soft) > 0
    assert found[0]["eval/vqa/vqav2_train/soft_score"] == pytest.approx(np.mean(soft))
    # All ten typed "Yes.", which is then taken to the letter.
    assert by_id["2001"]["answer"] == "yes" and by_id["2001"]["accuracy"] == 0.0
    results = json.loads((tmp_path / "predictions1" / "vqa_vqav2_train_results.json").read_text())
    assert results[0] == {"question_id": 1000, "answer": by_id["1000"]["answer"]}
    assert [row["question_id"] for row in results] == [int(line["question_id"]) for line in lines]
    official = json.loads((tmp_path / "predictions1" / "vqa_vqav2_train_accuracy.json").read_text())
    assert set(official) == {"overall", "perQuestionType", "perAnswerType"}
    assert {"yes/no", "number"} <= set(official["perAnswerType"])
    assert (tmp_path / "page.png").stat().st_size > 5000


def test_without_public_answers_there_are_predictions_alone(folder, tmp_path, capsys):
    with jax.set_mesh(tiny.mesh_of((1, 1, 1))):
        evaluation = make_evaluation(folder, "test2015", "test_dev", "test2015[:1]")
        metrics = evaluation.run(0.0, 7, tmp_path / "page.png", tmp_path)
    assert metrics == {}
    said = capsys.readouterr().out
    assert "3 questions about 2 images; their answers are not public" in said
    assert f"as the server takes them are in {tmp_path / 'vqa_vqav2_test2015_results.json'}" in said
    results = json.loads((tmp_path / "vqa_vqav2_test2015_results.json").read_text())
    assert [row["question_id"] for row in results] == [4000, 4001, 4002]
    assert {path.name for path in tmp_path.iterdir() if "results" in path.name} == {
        "vqa_vqav2_test2015_results.json"
    }
    for split in ("test_dev", r"test2015[:1]"):
        assert f"vqav2_{split}: no file for the server is written: this is a part" in said
        assert (tmp_path / f"vqa_vqav2_{split}.jsonl").is_file()


def test_partial_files_are_refused(tmp_path):
    write = lambda answers, whole, rows=None: write_server_files(
        tmp_path / "x", answers, num_rows=rows or len(answers), whole=whole, accuracies={}
    )
    with pytest.raises(PartialAnswersError, match="2 questions are answered and it asks 447,793"):
        write({"1": "a", "2": "b"}, 447_793)
    with pytest.raises(PartialAnswersError, match="1 question ids come twice"):
        write({"1": "a", "2": "b"}, 3, rows=3)
    assert not list(tmp_path.iterdir())
    path = write({"1": "a", "01": "b", "x": "c"}, 3)
    assert [row["question_id"] for row in json.loads(path.read_text())] == [1, "01", "x"]


def test_a_damaged_file_beside_the_records_is_named(tmp_path):
    assert whole_split(tmp_path, "train", 7) == 7
    for text, message in (
        ("{", "questions.json is cut or damaged"),
        ("[]", "must hold a JSON object"),
    ):
        (tmp_path / "questions.json").write_text(text)
        with pytest.raises(DataError, match=message):
            whole_split(tmp_path, "train", 7)


def test_answers_of_other_than_ten_are_compared_in_normal_form():
    assert question_accuracy(["A cat."], "cat") == 1.0
    assert question_accuracy(["cat", "dog", "dog"], "cat") == pytest.approx(0.9)
    assert question_accuracy(["cat"], "dog") == 0.0
