"""The command as users run it: killed, stopped and started again, on two processes, evaluated
alone, and with wrong arguments.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from tests.paths import ROOT
from tests.run_commands import run_commands
from tests.run_folder import lines, losses, saved_state, steps_saved
from vlmo_jax.main import say_cache

STEPS, EVERY = 60, 20
DEADLINE = 600  # seconds, on however busy a machine
SMALL = [
    "model.depth=2",
    "model.width=16",
    "model.num_heads=2",
    "model.mlp_dim=32",
    "model.image_size=32",
    "model.text_length=8",
    "model.text_positions=8",
    "data.max_masked_tokens=3",
    "data.num_threads=1",
    "data.prefetch=1",
    "batch_size=8",
    f"steps={STEPS}",
    "optimizer.warmup_steps=50",
    "log_every=1",
    f"checkpoint.every_steps={EVERY}",
    "evals.retrieval.splits=('unseen_concepts[:8]',)",
    "evals.retrieval.batch_size=8",
    "evals.retrieval.every_steps=1000",
    "data.randaugment=(2,7)",
    "checkpoint.best_metric=eval/retrieval/emoji_unseen_concepts[:8]/mean_recall",
]


def arguments(workdir, *settings):
    return [
        "--config=configs/stage3.py",
        f"--workdir={workdir}",
        *(f"--config.{setting}" for setting in (*SMALL, *settings)),
    ]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A function that gives the variables of a program; the programs of this file share their
    compilations.
    """
    cache = tmp_path_factory.mktemp("compilations")
    return lambda devices=1: {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@pytest.fixture(scope="module")
def start(environment):
    """A function that starts the command in a work folder."""
    processes = []

    def start(workdir, *settings, devices=1, **environ):
        log = pathlib.Path(f"{workdir}.{len(processes)}.log")
        command = [sys.executable, "-m", "vlmo_jax.main", *arguments(workdir, *settings)]
        with log.open("w") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**environment(devices), **environ},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        process.log = log
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def finish(process, status=0):
    assert process.wait(timeout=DEADLINE) == status, process.log.read_text()[-3000:]
    return process.log.read_text()


def wait_until(condition, process):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.log.read_text()[
            -3000:
        ]
        time.sleep(0.002)


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """A run that nothing interrupts."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    finish(start(workdir))
    return workdir


def test_a_run_leaves_what_it_says(whole):
    assert list(losses(whole)) == list(range(1, STEPS + 1))
    evaluated = [
        line["step"] for line in lines(whole) if any(name.startswith("eval/") for name in line)
    ]
    assert evaluated == [0, STEPS]
    assert steps_saved(whole) == [40, 60]
    for name in ("config.json", "curves.png", "retrieval.png"):
        assert (whole / name).stat().st_size > 100
    first = losses(whole)[1]
    assert first["train/learning_rate"] == 0
    for name, expected in (
        ("train/itc_loss", np.log(8)),
        ("train/itm_loss", np.log(2)),
        ("train/mlm_loss", np.log(4000)),
    ):
        assert abs(first[name] - expected) < 0.5 * expected, name


def test_killed_stopped_and_started_again_it_ends_the_same(start, whole, tmp_path):
    workdir = tmp_path / "run"
    process = start(workdir)
    wait_until(lambda: steps_saved(workdir), process)
    process.kill()
    finish(process, -signal.SIGKILL)
    killed_at, saved_at = len(losses(workdir)), steps_saved(workdir)[-1]
    assert saved_at <= killed_at < STEPS

    process = start(workdir)
    wait_until(
        lambda: "Compiled the step" in process.log.read_text(), process
    )  # later lines of the killed run are gone by now
    assert f"Starting from step {saved_at} of {workdir}/checkpoints" in process.log.read_text()
    wait_until(lambda: len(losses(workdir)) > saved_at, process)
    process.terminate()
    assert "SIGTERM: saving after this step, then stopping." in finish(
        process, 128 + signal.SIGTERM
    )
    stopped_at = steps_saved(workdir)[-1]
    assert (
        saved_at < stopped_at < STEPS
        and f"Stopped at step {stopped_at} of {STEPS}" in process.log.read_text()
    )

    assert f"Starting from step {stopped_at} of" in finish(start(workdir))
    assert losses(workdir) == losses(whole)
    assert list(losses(workdir)) == list(range(1, STEPS + 1))
    jax.tree.map(
        np.testing.assert_array_equal, saved_state(workdir, STEPS), saved_state(whole, STEPS)
    )
    last = lambda folder: [
        line
        for line in lines(folder)
        if "eval/retrieval/emoji_unseen_concepts[:8]/mean_recall" in line
    ][-1]
    assert last(workdir) == last(whole)


def test_evaluation_alone_measures_the_same(start, whole, tmp_path):
    workdir = tmp_path / "evaluation"
    log = finish(start(workdir, "mode=eval", f"init_from={whole}"))
    assert f"Evaluating step {STEPS} of {whole}" in log
    (line,) = lines(workdir)
    assert line == lines(whole)[-1]


def test_evaluation_refuses_what_the_checkpoint_was_not_trained_with(environment, whole, tmp_path):
    refused = {
        "data.std=(0.3,0.3,0.3)": (
            r"error: config.data.std=\(0.3, 0.3, 0.3\) but .*/run was trained with \[.*\]; use that"
        ),
        f"tokenizer={ROOT}/tests/data/wordpiece_vocab.txt": (
            "error: config.tokenizer=.* is not the tokenizer that .*/run was trained with"
        ),
        "model.depth=3": "error: config.init_from='.*': checkpoint .*/60 does not fit config.model",
    }
    lines = [
        arguments(tmp_path / "run", "mode=eval", f"init_from={whole}", setting)
        for setting in refused
    ]
    for message, ended in zip(
        refused.values(),
        run_commands("vlmo_jax.main", lines, tmp_path, env=environment()),
        strict=True,
    ):
        assert (
            ended.status == 1
            and re.match(message, ended.log.splitlines()[-1])
            and "Traceback" not in ended.log
        )


def free_port():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def start_pair(start, workdir, *settings):
    """Two processes of two devices; `settings` are those of each."""
    address = f"localhost:{free_port()}"
    return [
        start(
            workdir,
            *own,
            devices=2,
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(number),
        )
        for number, own in enumerate(settings or ((), ()))
    ]


def stop_passing(process):
    """Halts the program that passes a process's errors on, for which it waits when it ends."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    passing = []
    while not passing:
        assert process.poll() is None, process.log.read_text()[-3000:]
        passing = [
            int(child)
            for child in children.read_text().split()
            if b"peers.py" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    os.kill(passing[0], signal.SIGSTOP)
    return lambda: os.kill(passing[0], signal.SIGCONT)


def test_processes_that_were_not_started_alike_stop(start, tmp_path):
    pair = start_pair(start, tmp_path / "run", ("seed=1",), ("seed=2", "steps=70"))
    go_on = stop_passing(pair[1])  # it is slow to end, and must not be cut off by the other's end
    for process in pair:
        finish(process, 1)
    go_on()
    for process in pair:
        said = (
            "error: the processes of this job were not started alike: config.seed is 1 on process 0"
            " and 2 on process 1; config.steps is 60 on process 0 and 70 on process 1; start all"
        )
        deadline = time.monotonic() + DEADLINE
        while said not in process.log.read_text():
            assert time.monotonic() < deadline, process.log.read_text()[-3000:]
            time.sleep(0.01)
        assert "Traceback" not in process.log.read_text()
    assert not (tmp_path / "run").exists()


def test_two_processes_train_as_one_and_one_goes_on(start, whole, tmp_path):
    workdir = tmp_path / "run"
    pair = start_pair(start, workdir)
    wait_until(lambda: len(losses(workdir)) >= 8, pair[0])
    for process in pair:
        process.terminate()
    for process in pair:
        finish(process, 128 + signal.SIGTERM)
    assert (
        "4 cpu device(s) in 2 process(es), mesh data 4 x fsdp 1 x tensor 1"
        in pair[0].log.read_text()
    )
    (stopped_at,) = steps_saved(workdir)
    found, expected = losses(workdir), losses(whole)
    assert list(found) == list(range(1, stopped_at + 1)) and 8 <= stopped_at < STEPS
    for step in range(1, 9):
        for name, value in expected[step].items():
            np.testing.assert_allclose(
                found[step][name], value, rtol=1e-5, atol=1e-7, err_msg=f"{name} of step {step}"
            )

    assert f"Starting from step {stopped_at} of" in finish(start(workdir))
    assert list(losses(workdir)) == list(range(1, STEPS + 1))
    for name, value in expected[STEPS].items():
        np.testing.assert_allclose(
            losses(workdir)[STEPS][name], value, rtol=1e-2, atol=1e-3, err_msg=name
        )


def test_a_loss_that_is_not_finite_stops_the_run(start, tmp_path):
    workdir = tmp_path / "run"
    log = finish(
        start(
            workdir,
            "optimizer.learning_rate=1e25",
            "optimizer.warmup_steps=0",
            "optimizer.weight_decay=0.0",
            "checkpoint.every_steps=1",
        ),
        1,
    )
    error = log.splitlines()[-1]
    assert (
        error.startswith("error: step ")
        and "_loss is " in error
        and "config.optimizer.learning_rate" in error
    )
    failed, saved = int(error.split()[2].rstrip(":")), steps_saved(workdir)
    last = f"its last checkpoint is that of step {saved[-1]}" if saved else "it has no checkpoint"
    assert f"the run stops here; {last}" in error
    assert failed <= 4 and all(step < failed for step in saved)
    for step in saved:
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(saved_state(workdir, step)))


def test_wrong_arguments_end_in_one_line(environment, tmp_path):
    refused = {
        "batchsize=8": 'error: .* --config.batchsize=8: .* Did you mean "batch_size"',
        "data.source=/nowhere": (
            "error: config.data.source='/nowhere', .*: data set '/nowhere' is neither a folder"
            " nor one"
        ),
        "evals.retrieval.splits=('test',)": (
            "error: config.data.source='emoji', config.evals.retrieval.splits=.*'test' is not in"
            " .*; there are: train"
        ),
        "mode=eval": "error: config.init_from=None: no checkpoint in .*; give a work folder",
    }
    lines = [arguments(tmp_path / "run", setting) for setting in refused]
    for message, ended in zip(
        refused.values(),
        run_commands("vlmo_jax.main", lines, tmp_path, env=environment()),
        strict=True,
    ):
        assert (
            ended.status == 1
            and re.match(message, ended.log.splitlines()[-1])
            and "Traceback" not in ended.log
        )
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_it_says_where_compiled_programs_are_kept(capsys):
    say_cache(None)
    assert not capsys.readouterr().out
    say_cache("/somewhere/compiled")
    said = capsys.readouterr().out
    assert "/somewhere/compiled" in said and "config.compilation_cache=False" in said
