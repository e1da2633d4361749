"""What the compiler is told of the programs that a start waits for."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlmo_jax.parallel.compiler_options import quick_start


@pytest.mark.parametrize(
    "platforms, flags, told",
    [
        (["cpu", "cpu"], "", True),
        (["cpu"], "--xla_dump_to=/nowhere", True),
        (["cpu"], "--xla_backend_optimization_level=0", False),
        (["gpu", "gpu"], "", False),
        (["tpu"], "", False),
    ],
)
def test_only_programs_for_a_cpu_are_told_and_flags_go_first(monkeypatch, platforms, flags, told):
    monkeypatch.setenv("XLA_FLAGS", flags)
    devices = [types.SimpleNamespace(platform=platform) for platform in platforms]
    assert bool(quick_start(devices)) == told


def test_jax_takes_them_and_random_numbers_stay_as_they_are(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    draw = lambda: jax.random.normal(jax.random.key(3), (40, 5), jnp.float32)
    quick = jax.jit(draw, compiler_options=quick_start(jax.devices()))()
    slow = jax.jit(draw, compiler_options={"xla_backend_optimization_level": "3"})()
    np.testing.assert_array_equal(quick, slow)
