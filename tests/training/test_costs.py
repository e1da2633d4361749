"""What a start costs beside its steps, as metrics and in words."""

import subprocess
import sys
import time

import pytest

from vlmo_jax.training import costs
from vlmo_jax.training.costs import Costs


def test_the_first_step_and_checkpoints_are_counted_once(capsys):
    collected = Costs()
    collected.stepped()
    with collected.saving():
        time.sleep(0.02)
    found = collected.take(0.0)
    assert 0 < found["train/first_step_seconds"] < 10_000
    assert 0.02 <= found["train/save_seconds"] < 1
    assert 0.01 < found["train/host_gib"] < 1000
    collected.stepped()
    assert collected.take(0.0).keys() == {"train/host_gib"}


def test_what_binds_is_said_in_words_when_it_changes(capsys):
    collected = Costs()
    said = []
    for wait in (0.01, 0.15, 0.5, 0.15, 0.6, 0.05):
        collected.take(wait)
        said.append(capsys.readouterr().out)
    assert [text.partition(" is the")[0] for text in said] == [
        "The step",
        "",
        "The input",
        "",
        "",
        "The step",
    ]
    assert "steps wait 50% of the time for data" in said[2] and "bench input" in said[2]


def test_seconds_running_begin_with_the_process():
    code = (
        "import time; time.sleep(0.3)\n"
        "from vlmo_jax.training.costs import seconds_running\n"
        "print(seconds_running())"
    )
    started = time.monotonic()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.28 < float(run.stdout) < time.monotonic() - started + 0.05


@pytest.mark.parametrize(
    ("wait", "before", "binds"),
    [
        (0.15, "", "step"),
        (0.15, "input", "input"),
        (0.21, "step", "input"),
        (0.09, "input", "step"),
    ],
)
def test_between_the_bounds_it_stays_as_it_was(wait, before, binds):
    assert costs.which_binds(wait, before) == binds
