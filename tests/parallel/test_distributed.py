import os
import re
import socket
import subprocess
import sys

import pytest

from tests.paths import ROOT
from vlmo_jax.parallel import distributed

THREE = {"JAX_COORDINATOR_ADDRESS": "host:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "16", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({}, 1),
        (THREE, 4),
        ({**SLURM, "SLURM_STEP_NODELIST": "node[1-2]"}, 16),
        ({**SLURM, **THREE}, 4),  # what is said outright wins
        ({**SLURM, "SLURM_NTASKS": "1"}, 1),
        ({**SLURM, "OMPI_COMM_WORLD_SIZE": "8"}, 8),  # mpirun inside a Slurm job
    ],
)
def test_launchers_say_how_many_processes(environ, expected):
    assert distributed.expected_processes(environ) == expected


def test_cloud_tpu(monkeypatch):
    monkeypatch.setattr(distributed.importlib.util, "find_spec", lambda name: name == "libtpu")
    assert distributed.expected_processes({}) == 0, "only the metadata server knows"
    assert (
        distributed.expected_processes(
            {"TPU_WORKER_HOSTNAMES": "a,b,c,d", "MEGASCALE_NUM_SLICES": "2"}
        )
        == 8
    )
    assert distributed.expected_processes({"TPU_WORKER_HOSTNAMES": "localhost"}) == 1
    assert distributed.expected_processes({"TPU_SKIP_MDS_QUERY": "1"}) == 1, (
        "jax found no TPU chips"
    )


@pytest.mark.parametrize(
    "environ, message",
    [
        ({"JAX_COORDINATOR_ADDRESS": "host:1234"}, "JAX_NUM_PROCESSES, JAX_PROCESS_ID not set"),
        ({**THREE, "JAX_PROCESS_ID": "4"}, "process ids run from 0 to JAX_NUM_PROCESSES - 1"),
        ({**THREE, "JAX_COORDINATOR_ADDRESS": "host"}, "the address is host:port"),
        ({**THREE, "JAX_NUM_PROCESSES": "four"}, "JAX_NUM_PROCESSES=four"),
        (SLURM, "srun has not started this process"),
    ],
)
def test_refusals(environ, message):
    with pytest.raises(SystemExit, match=re.escape(message)):
        distributed.start_distributed(environ)


@pytest.mark.parametrize("expected, found, joined", [(8, 1, True), (1, 4, True), (4, 4, False)])
def test_another_number_of_processes_is_refused(expected, found, joined):
    with pytest.raises(SystemExit, match=f"started {expected} process.*jax sees {found}"):
        distributed.check_processes(expected, found, joined)


@pytest.mark.parametrize("expected, found, joined", [(1, 1, False), (1, 1, True), (4, 4, True)])
def test_the_right_number_is_accepted(expected, found, joined):
    distributed.check_processes(expected, found, joined)


def test_two_processes_join():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    code = (
        "import logging; logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        "from vlmo_jax.parallel.distributed import start_distributed; start_distributed()"
    )
    # What Slurm says about a task of its own must not count beside the three variables.
    environ = {
        **os.environ,
        **SLURM,
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_NUM_CPU_DEVICES": "3",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**environ, "JAX_PROCESS_ID": str(i)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    errors = [process.communicate(timeout=600)[1] for process in processes]
    for number, (process, error) in enumerate(zip(processes, errors)):
        assert process.returncode == 0, error
        assert f"Process {number} of 2, with 3 of 6 devices" in error
