"""Fine-tuning as users run it: from a checkpoint of stage 3 at another image size to results."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests import tiny
from tests.paths import ROOT
from tests.run_commands import run_commands
from vlmo_jax.checkpoints.store import save_params
from vlmo_jax.recipes import Recipe

SPLIT = "unseen_concepts[:8]"
MODEL = [
    "model.depth=2",
    "model.width=16",
    "model.num_heads=2",
    "model.mlp_dim=32",
    "model.text_length=8",
    "model.text_positions=8",
    "model.position=relative",
]
SETTINGS = [
    *MODEL,
    "batch_size=8",
    "accumulation=1",
    "steps=2",
    "optimizer.warmup_steps=1",
    f"evals.retrieval.splits=('{SPLIT}',)",
    "evals.retrieval.batch_size=8",
    "evals.retrieval.rerank_top_k=4",
    "evals.retrieval.rerank=add",
]


def arguments(workdir, *settings):
    return [
        "--config=finetune_retrieval:tiny,matching",
        f"--workdir={workdir}",
        *(f"--config.{setting}" for setting in (*SETTINGS, *settings)),
    ]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run at 64 px from stage 3 at 32, and its evaluation; and what was printed."""
    folder = tmp_path_factory.mktemp("finetune")
    stage3 = tiny.parse("stage3:tiny", "model.image_size=32", *MODEL)
    recipe = Recipe(stage3)
    recipe.open()
    model = {name: value for name, value in stage3.model.items() if name != "kind"}
    save_params(folder / "stage3" / "checkpoints", tiny.params(**model), recipe.meta())
    wrong = folder / "wrong"
    commands = [
        arguments(folder / "run", f"init_from={folder / 'stage3'}"),
        arguments(folder / "alone", f"init_from={folder / 'run'}", "mode=eval"),
        arguments(wrong, f"init_from={folder / 'run'}", "evals.retrieval.rerank_top_k=9"),
        arguments(wrong, f"init_from={folder / 'run'}", "evals.retrieval.splits=('test',)"),
    ]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    return folder, run_commands("vlmo_jax.main", commands, folder, env=environment)


def test_it_starts_from_stage_3_at_another_image_size(runs):
    _, (trained, *_) = runs
    assert trained.status == 0, trained.log[-3000:]
    assert "transformer/relative_position_bias" in trained.log and "resampled" in trained.log


def test_results_say_what_was_measured_on_what_and_of_what(runs):
    folder, (_, evaluated, *_) = runs
    assert evaluated.status == 0, evaluated.log[-3000:]
    before, last = lines(folder / "run" / "results.jsonl")
    (alone,) = lines(folder / "alone" / "results.jsonl")
    assert (before["step"], last["step"], alone["step"]) == (0, 2, 2)
    assert before["checkpoint"] is None and before["checkpoint_digest"] != last["checkpoint_digest"]
    assert alone.pop("init_from") == last.pop("init_from") == str(folder / "stage3")
    assert alone == last
    assert alone["checkpoint"] == str(folder / "run" / "checkpoints" / "2")
    assert (alone["split"], alone["images"], alone["texts"]) == (f"emoji_{SPLIT}", 8, 8)
    assert (alone["rerank"], alone["rerank_top_k"]) == ("add", 4)
    assert alone["protocol"] == "all_captions: all captions of every image"
    assert alone["preprocessing"]["image_size"] == 64 and len(alone["tokenizer"]) == 64
    assert {"jax", "numpy"} <= set(alone["versions"])
    recall = alone["metrics"]["reranked_image_to_text_recall_at_5"]
    row = ["reranked_image_to_text_recall_at_5", f"{recall:.2%}"]
    assert row in [line.split() for line in evaluated.log.splitlines()]


def test_the_page_and_the_predictions_lie_beside_them(runs):
    folder, _ = runs
    assert (folder / "alone" / "evaluation_retrieval.png").stat().st_size > 1000
    (file,) = (folder / "alone" / "predictions").iterdir()
    assert file.name == f"retrieval_emoji_{SPLIT}.jsonl"
    queries = lines(file)
    assert [line["way"] for line in queries] == ["image_to_text"] * 8 + ["text_to_image"] * 8
    assert all(len(line["top"]) == 8 and len(line["reranked_top"]) == 4 for line in queries)


def test_what_cannot_be_measured_is_refused_before_anything_compiles(runs):
    folder, (*_, many, nowhere) = runs
    assert many.status == nowhere.status == 1
    assert "rerank_top_k=9 is more than the 8 candidates of a search in" in many.log
    assert "'test' is not in" in nowhere.log
    assert "Compiled" not in many.log + nowhere.log and not (folder / "wrong").exists()


def test_two_processes_leave_what_one_does(runs):
    folder, _ = runs
    with socket.socket() as server:
        server.bind(("localhost", 0))
        address = f"localhost:{server.getsockname()[1]}"
    workdir = folder / "pair"
    pair = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "vlmo_jax.main",
                *arguments(workdir, f"init_from={folder / 'run'}", "mode=eval"),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "JAX_NUM_CPU_DEVICES": "2",
                "JAX_COORDINATOR_ADDRESS": address,
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(number),
            },
        )
        for number in range(2)
    ]
    try:
        assert [process.wait(timeout=600) for process in pair] == [0, 0]
    finally:
        for process in pair:
            process.kill()
    found, expected = (lines(at / "results.jsonl")[0] for at in (workdir, folder / "alone"))
    assert found.pop("metrics") == pytest.approx(expected.pop("metrics"))
    assert found == expected
    (name,) = (path.name for path in (folder / "alone" / "predictions").iterdir())
    both = (lines(at / "predictions" / name) for at in (workdir, folder / "alone"))
    for one, other in zip(*both, strict=True):
        assert (one["query"], one["rank"]) == (other["query"], other["rank"])
