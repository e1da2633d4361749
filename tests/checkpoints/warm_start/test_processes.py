"""A warm start in a job of two processes: each gets its shards of the same parameters."""

import os
import socket
import subprocess
import sys

import jax
import numpy as np

from tests.checkpoints.warm_start import models
from tests.paths import ROOT

PROCESS = """
import sys
from vlmo_jax.parallel.distributed import start_distributed
start_distributed()
import jax, numpy as np
from tests.checkpoints.warm_start import models

workdir, expected = sys.argv[1], np.load(sys.argv[2])
assert jax.process_count() == 2 and jax.local_device_count() == 4
initialise = models.drawn("stage3", image_size=32)
params, report = models.start(
    workdir, "stage3", initialise, mesh_shape=(2, 2, 2), image_size=32
)
shards = 0
for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    assert len(leaf.addressable_shards) == 4 and not leaf.is_fully_addressable
    whole = expected[jax.tree_util.keystr(path)]
    for shard in leaf.addressable_shards:
        np.testing.assert_array_equal(shard.data, whole[shard.index], str(path))
        shards += 1
print(shards, "shards,", len(report.fresh), "fresh,", len(report.resampled), "resampled")
"""


def test_two_processes(tmp_path):
    models.save(tmp_path / "stage2", models.random_params("stage2"), {})
    params, report = models.start(
        tmp_path / "stage2", "stage3", models.drawn("stage3", image_size=32), image_size=32
    )
    leaves = {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    np.savez(tmp_path / "expected.npz", **leaves)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environ = {
        **os.environ,
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_NUM_CPU_DEVICES": "4",
    }
    command = [sys.executable, "-c", PROCESS, tmp_path / "stage2", tmp_path / "expected.npz"]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environ, "JAX_PROCESS_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process, (output, error) in [
        (process, process.communicate(timeout=600)) for process in processes
    ]:
        assert process.returncode == 0, error
        assert (
            output.splitlines()[-1]
            == f"{4 * len(leaves)} shards, {len(report.fresh)} fresh, 1 resampled"
        )
