"""Steps of ViLBERT on one device and on meshes of eight: the same losses and updates."""

import jax
import numpy as np
import pytest

from tests import tiny, tiny_vilbert

FIELDS = dict(dropout_rate=0.2)
# With this epsilon an update is a smooth function of the gradients.
OPTIMIZER = dict(epsilon=1e-4, warmup_steps=0, learning_rate=1e-2)
TASK = dict(region_rate=0.5, mask_duplicates=True)


def run(shape, **fields):
    """Two updates on a mesh: the metrics of each step, and the parameters."""
    config = tiny_vilbert.config(model=FIELDS, optimizer=OPTIMIZER, task=TASK, **fields)
    mesh = tiny.mesh_of(shape)
    with jax.set_mesh(mesh):
        program = tiny.program(config, mesh)
        compiled, _, _ = program.compile()
        state, metrics = tiny.state(program, tiny_vilbert.params(**FIELDS)), []
        for step in range(2):
            batch = tiny_vilbert.make_batch(seed=step)
            batch = {name: batch[name] for name in program.recipe.task.reads}
            state, measured = compiled(state, {}, program.place_batch(batch))
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
    assert {name for name in metrics[0] if name.endswith("loss")} == {
        "loss",
        "itm_loss",
        "mlm_loss",
        "region_loss",
    }
    start = tiny_vilbert.params(**FIELDS)
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, start)
    still = {path[-1].key for path, far in jax.tree.leaves_with_path(moved) if far < 1e-4}
    assert still <= {"k_bias"}  # it shifts all logits of a query alike
