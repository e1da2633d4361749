"""Steps of VSE-infinity: on every mesh the same losses, updates and running statistics."""

import jax
import numpy as np
import pytest

from tests import small_vse, tiny
from tests.close import same_run

STEPS = 3  # one with all negatives, two with the hardest


def run(shape):
    config, mesh = small_vse.config(), tiny.mesh_of(shape)
    first = small_vse.params(config)
    with jax.set_mesh(mesh):
        program = tiny.program(config, mesh)
        compiled, _, _ = program.compile()
        state, metrics = tiny.state(program, first), []
        for step in range(STEPS):
            batch = small_vse.make_batch(seed=step)
            placed = program.place_batch({name: batch[name] for name in program.update.task.reads})
            state, measured = compiled(state, {}, placed)
            metrics.append(jax.device_get(measured))
        return first, metrics, jax.device_get(state)


@pytest.fixture(scope="module")
def alone():
    return run((1, 1, 1))


@pytest.mark.parametrize("shape", [(8, 1, 1), (4, 2, 1), (2, 2, 2)], ids=str)
def test_same_losses_updates_and_statistics_on_every_mesh(alone, shape):
    _, metrics, state = run(shape)
    same_run(metrics, state, *alone[1:])


def test_running_statistics_are_those_of_all_rows_of_the_batches(alone):
    first, _, state = alone
    assert int(state.extra["updates"]) == STEPS
    up = first["itc"]["image"]["mlp"]["up"]
    hidden = small_vse.make_batch(seed=0)["regions"] @ up["kernel"] + up["bias"]
    rows = hidden.reshape(-1, hidden.shape[-1])
    config = small_vse.config()
    moved = small_vse.model(config, first).itc.image.mlp.norm.moved(hidden)
    norm = first["itc"]["image"]["mlp"]["norm"]
    wanted = 0.9 * norm["running_variance"] + 0.1 * rows.var(0, ddof=1)
    np.testing.assert_allclose(moved["running_variance"], wanted, rtol=1e-4)
    np.testing.assert_allclose(
        moved["running_mean"], 0.9 * norm["running_mean"] + 0.1 * rows.mean(0), atol=1e-5
    )
    for name in ("running_mean", "running_variance"):
        found = state.params["itc"]["image"]["mlp"]["norm"][name]
        assert np.abs(found - norm[name]).max() > 1e-3  # they are kept from step to step
        moment = state.opt_state.mean["itc"]["image"]["mlp"]["norm"][name]
        np.testing.assert_array_equal(moment, 0)  # and have no gradient


def test_everything_else_moves(alone):
    first, _, state = alone
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max() > 1e-4, state.params, first)
    still = [
        jax.tree_util.keystr(path)
        for path, changed in jax.tree_util.tree_leaves_with_path(moved)
        if not changed
    ]
    # Neither a bias of keys nor one before a BatchNorm changes anything.
    assert all("k_bias" in name or "['up']['bias']" in name for name in still), still
