"""Sums of gradients in float32 on request, and nothing else changed."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.layers.products import float32_sums, product

SPECS = {
    "bnd,dthk->tbhnk": ((4, 9, 6), (6, 3, 2, 5)),
    "bqhk,hkd->bqd": ((4, 9, 2, 5), (2, 5, 6)),
    "aby,yz->abz": ((4, 9, 6), (6, 7)),
    "ay,zy->az": ((4, 6), (7, 6)),
}


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_only_the_parameter_gradient_has_more_digits(spec, dtype):
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in SPECS[spec])

    def run(wanted):
        with float32_sums(wanted):
            y, pull = jax.vjp(lambda x, kernel: product(spec, x, kernel, dtype), x, kernel)
            return y, *pull(jnp.cos(y))

    (plain, by_x, by_kernel), (same, same_by_x, summed) = run(False), run(True)
    tolerance = 1e-5 if dtype == jnp.float32 else 2e-2
    assert plain.dtype == same.dtype == dtype and summed.dtype == jnp.float32
    np.testing.assert_array_equal(plain, same)
    np.testing.assert_allclose(same_by_x, by_x, rtol=tolerance, atol=tolerance)
    rounded = lambda y: y.astype(jnp.bfloat16).astype(jnp.float32)
    if dtype == jnp.float32:
        np.testing.assert_allclose(summed, by_kernel, rtol=1e-5, atol=1e-6)
    else:
        assert (rounded(by_kernel) == by_kernel).all() and (rounded(summed) != summed).mean() > 0.9
        np.testing.assert_allclose(rounded(summed), by_kernel, rtol=1e-2, atol=1e-2)


def test_the_recipe_decides_for_the_whole_step():
    """Of bfloat16 products, those that make the gradients of matrices are in float32."""
    mesh, products = tiny.mesh_of((1, 1, 1)), {}
    for wanted in (False, True):
        config = tiny.config(model=dict(dtype="bfloat16"), optimizer=dict(float32_sums=wanted))
        with jax.set_mesh(mesh):
            program = tiny.program(config, mesh)
            step = jax.make_jaxpr(program.update.step)
            traced = str(step(program.abstract_state, {}, tiny.make_batch()))
        products[wanted] = collections.Counter(re.findall(r":(\w+)\[.*= dot_general", traced))
    assert products[True]["f32"] > products[False]["f32"] + 30
    assert products[True]["bf16"] < products[False]["bf16"] - 30
