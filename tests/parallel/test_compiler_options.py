"""What the compiler is told of the programs that a start waits for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlmo_jax.parallel import compiler_options
from vlmo_jax.parallel.compiler_options import quick_start


@pytest.mark.parametrize(
    "backend, flags, told",
    [
        ("cpu", "", True),
        ("cpu", "--xla_dump_to=/nowhere", True),
        ("cpu", "--xla_backend_optimization_level=0", False),
        ("gpu", "", False),
        ("tpu", "", False),
    ],
)
def test_only_a_cpu_is_told_and_flags_go_first(monkeypatch, backend, flags, told):
    monkeypatch.setattr(compiler_options.jax, "default_backend", lambda: backend)
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert bool(quick_start()) == told


def test_jax_takes_them_and_random_numbers_stay_as_they_are(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    draw = lambda: jax.random.normal(jax.random.key(3), (40, 5), jnp.float32)
    quick = jax.jit(draw, compiler_options=quick_start())()
    slow = jax.jit(draw, compiler_options={"xla_backend_optimization_level": "3"})()
    np.testing.assert_array_equal(quick, slow)
