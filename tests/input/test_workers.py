"""The processes that make batches: their ends, their memory, and what is said of both."""

import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from tests.paths import ROOT
from vlmo_jax.commands.endings import UserError
from vlmo_jax.input import workers
from vlmo_jax.input.schema import Column
from vlmo_jax.input.workers import UnguardedScriptError, WorkerError

# Trains with workers, as a script of somebody's own would.
SCRIPT = """
import os, sys, time
import numpy as np
from vlmo_jax.input.attempts import Report
from vlmo_jax.input.pipeline import Loading, stream_batches
from vlmo_jax.input.schema import Column

class Numbers:
    source, columns, seed = range(8), {"number": Column((), np.int64)}, 0
    def write(self, batch, row, position, index):
        batch["number"][row] = index
        return Report(seen=1)

def main():
    loading, stay = Loading(num_workers=2, num_threads=1), 100 * (len(sys.argv) > 2)
    with stream_batches(
        Numbers(), batch_size=4, start_step=0, end_step=int(sys.argv[1]) + stay, loading=loading
    ) as batches:
        for step, batch in zip(range(int(sys.argv[1])), batches):
            assert sorted(batch["number"].tolist()) == sorted(set(batch["number"].tolist()))
        print("drawn", flush=True)
        if stay:
            time.sleep(600)
"""
GUARDED = SCRIPT + "\nif __name__ == '__main__': main()\n"
UNGUARDED = SCRIPT + "\nmain()\n"


def start(tmp_path, code, *arguments):
    script = tmp_path / "script.py"
    script.write_text(code)
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def of_session(session):
    """Processes of a session that are alive, and not mere names of ended ones."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = pathlib.Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(number))
    return found


def test_workers_are_deaf_to_terminals_and_die_with_the_process_they_work_for(tmp_path, request):
    process = start(tmp_path, GUARDED, "3", "stay")
    request.addfinalizer(process.kill)
    assert process.stdout.readline() == "drawn\n"
    children = [number for number in of_session(process.pid) if number != process.pid]
    assert len(children) >= 2
    for number in children:  # as a closed terminal or an impatient Ctrl-C does to all of its group
        os.kill(number, signal.SIGHUP)
        os.kill(number, signal.SIGINT)
    time.sleep(0.3)
    assert set(children) <= set(of_session(process.pid))
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while of_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert of_session(process.pid) == []


def test_a_normal_end_says_nothing(tmp_path):
    output, error = start(tmp_path, GUARDED, "3").communicate()
    assert (output, error) == ("drawn\n", "")


def test_a_script_without_a_guard_is_told_so_in_one_line(tmp_path):
    process = start(tmp_path, UNGUARDED, "3")
    error = process.communicate()[1]
    assert process.returncode == 1
    assert error.splitlines() == [
        "error: a worker that makes batches has ended with exit code 78: the script runs as a whole"
        ' in each of them: put what it does below `if __name__ == "__main__":`, or set'
        " config.data.num_workers=0"
    ]


@pytest.mark.parametrize(
    "status, kind, words",
    [(-7, WorkerError, "--shm-size"), (-9, WorkerError, "memory ran out")]
    + [(78, UnguardedScriptError, "__main__"), (3, WorkerError, "reason above")],
)
def test_the_end_of_a_worker_is_explained(status, kind, words):
    with pytest.raises(kind, match=f"exit code {status}: .*{words}"), workers.explaining_workers():
        raise RuntimeError(
            f"Worker process was terminated unexpectedly with exit code {status}. Search the logs"
        )


def test_other_errors_of_the_input_are_left_as_they_are():
    with pytest.raises(RuntimeError, match="^another$"), workers.explaining_workers():
        raise RuntimeError("another")


def test_batches_that_do_not_fit_the_shared_memory_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "SHARED_MEMORY", tmp_path)
    free = types.SimpleNamespace(f_bavail=64, f_frsize=10**6)
    monkeypatch.setattr(workers.os, "statvfs", lambda path: free)
    columns = {"image": Column((1000, 1000, 3), np.uint8), "ids": Column((250_000,), np.int32)}
    workers.require_shared_memory(columns, 4, 4)  # 16 MB each, 64 MB in all
    with pytest.raises(UserError, match=r"64 MB free, and the 5 .* of 16\.0 MB .* need 80 MB"):
        workers.require_shared_memory(columns, 4, 5)
    monkeypatch.setattr(workers, "SHARED_MEMORY", tmp_path / "none")
    workers.require_shared_memory(columns, 4, 5)
