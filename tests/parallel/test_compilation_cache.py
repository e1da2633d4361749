"""JAX's compilation cache is used where a program that comes from it runs as it should."""

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT
from vlmo_jax.parallel import compilation_cache

PROGRAM = """
import jax, jax.numpy as jnp
from vlmo_jax.parallel.compilation_cache import keep_programs
from vlmo_jax.parallel.sharding import batch_sharding, make_mesh
mesh = make_mesh()
print("kept in", keep_programs())
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
    assert f"kept in {tmp_path if kept else None}" in ended.stdout


@pytest.mark.parametrize(
    "environ, folder",
    [
        ({"XDG_CACHE_HOME": "HERE/caches"}, "HERE/caches/vlmo_jax/compiled"),
        ({"HOME": "HERE"}, "HERE/.cache/vlmo_jax/compiled"),
        ({"XDG_CACHE_HOME": "HERE/a_file"}, None),
        ({"XDG_CACHE_HOME": "HERE/caches", "JAX_COMPILATION_CACHE_DIR": ""}, None),
        ({"XDG_CACHE_HOME": "HERE/caches", "JAX_COMPILATION_CACHE_DIR": "other"}, None),
    ],
)
def test_commands_keep_programs_in_the_cache_folder(tmp_path, monkeypatch, environ, folder):
    (tmp_path / "a_file").write_text("")
    for name in ("XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value.replace("HERE", str(tmp_path)))
    updates = {}
    monkeypatch.setattr(compilation_cache.jax.config, "update", updates.__setitem__)
    compilation_cache.keep_programs()
    found = updates.get("jax_compilation_cache_dir")
    assert found == (folder and folder.replace("HERE", str(tmp_path)))
    assert not folder or os.path.isdir(found)
