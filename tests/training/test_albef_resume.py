"""A run of ALBEF that is killed and goes on equals one that nothing interrupts: to the bit, queues
and momentum towers too.
"""

import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests import tiny_albef
from tests.paths import ROOT

STEPS, EVERY, DEADLINE = 6, 2, 600
SETTINGS = {
    **{f"model.{name}": value for name, value in tiny_albef.MODEL.items() if name != "vocab_size"},
    "model.dropout_rate": 0.1,
    "task.queue_size": 16,
    "task.alpha_steps": 4,
    "data.max_masked_tokens": 3,
    "batch_size": 8,
    "steps": STEPS,
    "optimizer.warmup_steps": 2,
    "log_every": 1,
    "checkpoint.every_steps": EVERY,
    "checkpoint.keep_last": 3,
    "checkpoint.best_metric": "mean_recall",
    "evals.retrieval.splits": "('unseen_concepts[:8]',)",
    "evals.retrieval.batch_size": 8,
    "evals.retrieval.every_steps": 1000,
}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    cache = tmp_path_factory.mktemp("compilations")
    processes = []

    def start(workdir, *settings):
        command = [sys.executable, "-m", "vlmo_jax.main", "--config=configs/albef.py"]
        command += [f"--config.{name}={value}" for name, value in SETTINGS.items()]
        log = workdir.with_suffix(f".{len(processes)}.log").open("w+")
        environ = {
            **os.environ,
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        process = subprocess.Popen(
            [*command, f"--workdir={workdir}", *settings],
            cwd=ROOT,
            env=environ,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        process.log = log
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def told(process):
    process.log.seek(0)
    return process.log.read()


def state_of(workdir, step):
    folder = workdir / "checkpoints" / str(step)
    read = ocp.StandardCheckpointer().restore
    return jax.device_get({item: read(folder / item) for item in ("params", "optimizer", "extra")})


def test_killed_and_started_again_it_ends_the_same(start, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = start(whole)
    assert process.wait(timeout=DEADLINE) == 0, told(process)[-3000:]
    process, deadline = start(cut), time.monotonic() + DEADLINE
    while not (cut / "checkpoints" / str(EVERY)).is_dir():
        assert process.poll() is None and time.monotonic() < deadline, told(process)[-3000:]
        time.sleep(0.002)
    process.kill()
    assert process.wait(timeout=DEADLINE) == -signal.SIGKILL
    process = start(cut)
    assert process.wait(timeout=DEADLINE) == 0, told(process)[-3000:]
    assert "Starting from step" in told(process) and "of " + str(cut) in told(process)
    expected, found = state_of(whole, STEPS), state_of(cut, STEPS)
    assert int(expected["extra"]["steps"]) == STEPS
    assert int(expected["extra"]["pointer"]) == 8 * STEPS % 16
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
