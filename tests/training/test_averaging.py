"""Averages of parameters over steps."""

import jax
import numpy as np

from vlmo_jax.training.averaging import update_average


def test_the_average_is_that_of_the_formula_from_the_initial_parameters():
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(6, 3, 4)).astype(np.float32)
    average = {"kernel": steps[0]}
    for params in steps[1:]:
        average = jax.jit(update_average, static_argnums=2)(average, {"kernel": params}, 0.75)
    weights = np.array([0.75**5, *(0.25 * 0.75 ** np.arange(4, -1, -1))])
    np.testing.assert_allclose(weights.sum(), 1)
    expected = np.tensordot(weights, steps.astype(np.float64), 1)
    np.testing.assert_allclose(average["kernel"], expected, rtol=1e-5, atol=1e-6)


def test_what_does_not_change_is_kept_to_the_bit():
    params = {"frozen": np.random.default_rng(0).normal(size=1000).astype(np.float32)}
    average = params
    for _ in range(3):
        average = update_average(average, params, 0.9999)
    np.testing.assert_array_equal(average["frozen"], params["frozen"])


def test_without_memory_the_average_is_the_last():
    found = update_average({"x": np.float32(3)}, {"x": np.float32(0.5)}, 0.0)
    assert found["x"] == 0.5
