"""The loop: what it evaluates before its first step, and the best metric it is told to keep."""

import json
import types

import numpy as np
import pytest

from configs import stage3
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.training.loop import Loop

MEASURED = {
    "eval/retrieval/emoji_a/mean_recall": 0.5,
    "eval/retrieval/emoji_b/mean_recall": 0.1,
    "eval/retrieval/emoji_a/median_rank": 3.0,
}


class StoppedError(Exception):
    """Where a run goes on to its batches."""


class Evaluation:
    def __init__(self, metrics):
        self.metrics, self.steps = metrics, []

    def run(self, params, step, page=None):
        self.steps.append(step)
        return self.metrics


def start(workdir, step, *, best_metric=None, metrics=MEASURED):
    """The steps at which a run that starts at `step` evaluates before it reads its first batch;
    every 4 steps it is due.
    """
    config = stage3.get_config()
    config.evals.retrieval.every_steps, config.checkpoint.best_metric = 4, best_metric

    def batches(start_step):
        raise StoppedError

    recipe = types.SimpleNamespace(
        config=config,
        evaluations={"retrieval": types.SimpleNamespace(page_at_start=False)},
        batches=batches,
        meta=dict,
    )
    program, evaluation = (
        types.SimpleNamespace(recipe=recipe, config=config, load_frozen=dict),
        Evaluation(metrics),
    )
    state = types.SimpleNamespace(step=np.int32(step), params=None)
    loop = Loop(program, state, None, {"retrieval": evaluation}, workdir)
    try:
        with pytest.raises(StoppedError):
            loop.run()
    finally:
        loop.writer.close()
    return evaluation.steps


def test_an_evaluation_that_a_signal_prevented_is_made_at_the_next_start(tmp_path):
    lines = [
        {"step": 0, **MEASURED},
        {"step": 4, "train/loss": 1.0},
        {"step": 5, "train/loss": 1.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert start(tmp_path, 5) == []
    assert start(tmp_path, 4) == [4]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1]) == {
        "step": 4,
        **MEASURED,
    }
    assert start(tmp_path, 4) == []
    assert start(tmp_path, 0) == [0]


@pytest.mark.parametrize(
    "best_metric", ["eval/retrieval/emoji_a/mean_recall", "mean_recall", "", None]
)
def test_a_best_metric_is_one_that_is_measured_or_its_last_part(tmp_path, best_metric):
    assert start(tmp_path, 0, best_metric=best_metric) == [0]


def test_a_best_metric_that_is_not_measured_is_refused(tmp_path):
    name = "eval/emoji_c/mean_recall"
    message = (
        f"config.checkpoint.best_metric='{name}' is measured by no evaluation; use one of"
        " eval/retrieval/emoji_a/mean_recall, "
    )
    with pytest.raises(ConfigError, match=message):
        start(tmp_path, 0, best_metric=name)
    assert start(tmp_path, 0, best_metric=name, metrics={}) == [
        0
    ]  # without evaluations there is none to ask for
