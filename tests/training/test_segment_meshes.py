"""A segmenter on every mesh: BatchNorm sees the whole batch, and losses, updates and running
statistics are the same.
"""

import jax
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.build import abstract_params
from vlmo_jax.recipes import Recipe
from vlmo_jax.training import program as programs

SMALL = (
    *("model.width=16", "model.num_heads=2", "model.mlp_dim=32", "model.head_channels=8"),
    *("model.auxiliary_channels=8", "model.image_size=32", "model.patch_size=8"),
    *("model.head_dropout=0.0", "batch_size=8", "steps=10", "init_from=none"),
    "evals.segmentation.stride=32",
    # With this epsilon an update is a smooth function of the gradients.
    *("optimizer.epsilon=1e-3", "optimizer.warmup_steps=0", "optimizer.learning_rate=0.01"),
)
BATCHNORM = ("running_mean", "running_variance")


def draw(params):
    rng = np.random.default_rng(0)

    def values(path, leaf):
        found = rng.normal(0, 0.3, leaf.shape)
        if path[-1].key == "running_variance":
            return np.exp(found).astype(np.float32)
        return (found + 1 if path[-1].key == "scale" else found).astype(np.float32)

    return jax.tree_util.tree_map_with_path(values, params)


def step(shape):
    """The metrics of a step, and the parameters before and after it."""
    recipe = Recipe(tiny.parse("finetune_segment:tiny", *SMALL))
    rng = np.random.default_rng(1)
    batch = {
        "image": rng.integers(0, 256, (8, 32, 32, 3), np.uint8),
        "mask": rng.integers(0, 10, (8, 32, 32)).astype(np.uint8),
    }
    mesh = tiny.mesh_of(shape)
    with jax.set_mesh(mesh):
        program = programs.build_program(recipe, mesh)
        before = draw(abstract_params(recipe.make_model))
        state, metrics = program.step(tiny.state(program, before), {}, program.place_batch(batch))
        return jax.device_get(metrics), flatten(before), flatten(jax.device_get(state.params))


@pytest.fixture(scope="module")
def alone():
    return step((1, 1, 1))


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2)], ids=str)
def test_same_losses_and_updates_as_on_one_device(alone, shape):
    metrics, _, after = step(shape)
    for name, value in alone[0].items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    for path, value in alone[2].items():
        np.testing.assert_allclose(after[path], value, rtol=1e-5, atol=1e-5, err_msg=str(path))


def test_every_part_moves(alone):
    _, before, after = alone
    still = {path for path, value in after.items() if np.array_equal(value, before[path])}
    # Means are taken away behind these: they have no gradient but noise.
    assert still <= {("scales", name, "bias") for name in ("first", "first_again", "second")}
    assert sum(path[-1] in BATCHNORM for path in after) == 2 * 14


@pytest.mark.parametrize(
    "name, axis", [("head_channels", "fsdp"), ("auxiliary_channels", "tensor")]
)
def test_channels_that_do_not_divide_are_refused(name, axis):
    recipe = Recipe(
        tiny.parse("finetune_segment:tiny", *SMALL, f"model.{name}=9", f"mesh.{axis}=2")
    )
    with pytest.raises(
        ConfigError, match=f"model.{name}=9 does not divide over config.mesh.{axis}"
    ):
        recipe.check(8)
