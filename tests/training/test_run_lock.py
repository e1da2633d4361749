"""A work folder holds one run at a time, and a dead run holds nothing."""

import signal
import subprocess
import sys

import pytest

from tests.paths import ROOT
from vlmo_jax.training.run_lock import NAME, WorkdirInUseError, lock_workdir

HOLD = """
import pathlib, sys, time
from vlmo_jax.training.run_lock import lock_workdir
with lock_workdir(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_run_is_refused_and_a_killed_one_is_no_hindrance(tmp_path):
    workdir = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workdir)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        message = f"{workdir} is in use by another run .process {holder.pid} on .*, since 20"
        with pytest.raises(WorkdirInUseError, match=message), lock_workdir(workdir):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (workdir / NAME).exists()
    with lock_workdir(workdir):
        with pytest.raises(WorkdirInUseError), lock_workdir(workdir):
            pass
        (workdir / NAME).write_text("{")
        with pytest.raises(WorkdirInUseError, match="another process"), lock_workdir(workdir):
            pass
    assert not (workdir / NAME).exists()


def test_an_error_inside_lets_go(tmp_path):
    with pytest.raises(KeyError), lock_workdir(tmp_path):
        raise KeyError
    with lock_workdir(tmp_path), lock_workdir(tmp_path / "another"):
        pass
