"""Two steps of ALBEF, in parts, on meshes and on two processes: the same losses and updates, queues
and momentum towers.
"""

import os
import pickle
import socket
import subprocess
import sys

import jax
import pytest

from tests import tiny_albef
from tests.close import same_run
from tests.paths import ROOT

ONE = (1, 1, 1)


@pytest.fixture(scope="module")
def alone():
    state, metrics = tiny_albef.take_steps(tiny_albef.program(tiny_albef.config(), ONE))
    return jax.device_get(state), metrics


@pytest.mark.parametrize("shape", [(8, 1, 1), (4, 2, 1), (2, 2, 2)], ids=str)
def test_the_same_on_every_mesh_and_split_as_the_table_says(alone, shape):
    state, metrics = tiny_albef.take_steps(tiny_albef.program(tiny_albef.config(), shape))
    same_run(metrics, jax.device_get(state), *reversed(alone))
    for name in ("image_queue", "text_queue"):
        queue = state.extra[name]
        assert queue.sharding.shard_shape(queue.shape)[0] == tiny_albef.QUEUE // (
            shape[0] * shape[1]
        )
    alike = lambda tower, param: tower.sharding.is_equivalent_to(param.sharding, param.ndim)
    params = {name: part for name, part in state.params.items() if name != "itm_head"}
    params["itc"] = {name: part for name, part in params["itc"].items() if name != "temperature"}
    assert all(jax.tree.leaves(jax.tree.map(alike, state.extra["momentum"], params)))


def test_in_parts_the_update_is_that_of_the_whole(alone):
    program = tiny_albef.program(tiny_albef.config(accumulation=2), ONE)
    state, metrics = tiny_albef.take_steps(program)
    same_run(metrics, jax.device_get(state), *reversed(alone))


PROCESS = """
import sys, pickle
import jax
from jax.experimental import multihost_utils
from absl import flags
flags.FLAGS.mark_as_parsed()
from vlmo_jax.parallel.distributed import start_distributed
start_distributed()
from tests import tiny_albef
program = tiny_albef.program(tiny_albef.config(), (4, 1, 1), jax.devices())
state, metrics = tiny_albef.take_steps(program)
whole = lambda x: multihost_utils.process_allgather(x, tiled=True)
parts = jax.tree.map(whole, (state.params, state.extra))
if jax.process_index() == 0:
    pickle.dump((parts, metrics), open(sys.argv[1], "wb"))
"""


def test_the_same_on_two_processes(alone, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environ = {
        **os.environ,
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_NUM_CPU_DEVICES": "2",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(tmp_path / "found")],
            cwd=ROOT,
            env={**environ, "JAX_PROCESS_ID": str(number)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    (params, extra), metrics = pickle.loads((tmp_path / "found").read_bytes())
    state, its_metrics = alone
    same_run(metrics, (params, extra), its_metrics, (state.params, state.extra))
