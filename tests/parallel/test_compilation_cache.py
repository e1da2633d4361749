"""JAX's compilation cache is used where a program that comes from it runs as it should."""

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT

PROGRAM = """
import jax, jax.numpy as jnp
from vlmo_jax.parallel.sharding import batch_sharding, make_mesh
mesh = make_mesh()
x = jax.device_put(jnp.arange(64.0), batch_sharding(mesh))
print(jax.jit(lambda x: (x.sum(), jnp.sort(x)[5]))(x))
"""


@pytest.mark.parametrize("devices, kept", [(1, True), (2, False)])
def test_several_cpu_devices_do_without(tmp_path, devices, kept):
    environ = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    environ.pop("XLA_FLAGS", None)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert "2016" in ended.stdout, ended.stderr
    entries = [path.name for path in tmp_path.rglob("jit__lambda*")]
    assert bool(entries) == kept
