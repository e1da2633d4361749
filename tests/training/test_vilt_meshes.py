"""Steps of ViLT on one device and on meshes of eight: the same losses and updates."""

import jax
import numpy as np
import pytest

from tests import tiny, tiny_vilt

# Dropout and the choice of patches draw, too.
FIELDS = dict(dropout_rate=0.2, sampled_patches=4)
# With this epsilon an update is a smooth function of the gradients.
OPTIMIZER = dict(epsilon=1e-4, warmup_steps=0, learning_rate=1e-2)


def run(shape):
    """Two updates on a mesh: the metrics of each step, and the parameters."""
    config, mesh = tiny_vilt.config(model=FIELDS, optimizer=OPTIMIZER), tiny.mesh_of(shape)
    with jax.set_mesh(mesh):
        program = tiny.program(config, mesh)
        compiled, _, _ = program.compile()
        state, metrics = tiny.state(program, tiny_vilt.params(**FIELDS)), []
        for step in range(2):
            batch = program.place_batch(tiny_vilt.make_batch(seed=step))
            state, measured = compiled(state, {}, batch)
            metrics.append(jax.device_get(measured))
        return metrics, jax.device_get(state.params)


@pytest.fixture(scope="module")
def alone():
    return run((1, 1, 1))


@pytest.mark.parametrize("shape", [(8, 1, 1), (4, 2, 1), (2, 2, 2)], ids=str)
def test_same_losses_and_updates_as_on_one_device(alone, shape):
    metrics, params = run(shape)
    close = lambda path, a, b: np.testing.assert_allclose(
        a, b, rtol=1e-5, atol=1e-5, err_msg=jax.tree_util.keystr(path)
    )
    jax.tree_util.tree_map_with_path(close, metrics, alone[0])
    jax.tree_util.tree_map_with_path(close, params, alone[1])
    start = tiny_vilt.params(**FIELDS)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, start)
    still = {path[-1].key for path, far in jax.tree.leaves_with_path(moved) if far < 1e-4}
    assert still == {"k_bias"}  # it shifts all logits of a query alike
