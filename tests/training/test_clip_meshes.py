"""CLIP on every mesh, whole and in parts: the same losses and updates."""

import math

import jax
import numpy as np
import pytest

from tests import tiny
from tests.close import same_run
from vlmo_jax.models.build import abstract_params
from vlmo_jax.recipes import Recipe
from vlmo_jax.training import program as programs

STEPS = 2
SMALL = (
    *("model.width=16", "model.num_heads=2", "model.mlp_dim=32", "model.depth=2"),
    *("model.text_width=24", "model.text_num_heads=2", "model.text_mlp_dim=48"),
    *("model.text_depth=2", "model.embed_dim=8", "model.image_size=16", "model.patch_size=8"),
    *("model.text_length=8", "model.vocab_size=48", "batch_size=8", "steps=10"),
    # With this epsilon an update is a smooth function of the gradients.
    *("optimizer.epsilon=1e-3", "optimizer.warmup_steps=0", "optimizer.learning_rate=0.01"),
    *("model.scan_layers=True", "optimizer.rate_multipliers=()"),
)


def draw(params, seed=0):
    rng = np.random.default_rng(seed)

    def values(path, leaf):
        found = rng.normal(0, 0.3, leaf.shape)
        if path[-1].key == "logit_scale":
            return np.float32(math.log(14))
        return (found + 1 if path[-1].key == "scale" else found).astype(np.float32)

    return jax.tree_util.tree_map_with_path(values, params)


def run(shape, *settings):
    recipe = Recipe(tiny.parse("clip:tiny", *SMALL, *settings))
    mesh = tiny.mesh_of(shape)
    with jax.set_mesh(mesh):
        program = programs.build_program(recipe, mesh)
        compiled, _, _ = program.compile()
        state = tiny.state(program, draw(abstract_params(recipe.make_model)))
        metrics = []
        for step in range(STEPS):
            batch = {name: tiny.make_batch(size=16, seed=step)[name] for name in recipe.task.reads}
            state, measured = compiled(state, {}, program.place_batch(batch))
            metrics.append(jax.device_get(measured))
        return metrics, jax.device_get(state)


@pytest.fixture(scope="module")
def alone():
    return run((1, 1, 1))


@pytest.mark.parametrize(
    "shape, settings", [((8, 1, 1), ()), ((4, 1, 2), ("accumulation=2",)), ((2, 2, 2), ())]
)
def test_same_losses_and_updates_as_on_one_device(alone, shape, settings):
    metrics, state = run(shape, *settings)
    same_run(metrics, state, *alone)


def test_updates_move_every_part(alone):
    start = draw(abstract_params(Recipe(tiny.parse("clip:tiny", *SMALL)).make_model))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), alone[1].params, start)
    assert min(jax.tree.leaves(moved)) > 0
