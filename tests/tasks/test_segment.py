"""Segmentation's losses count labelled pixels, and batches move the running statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.masks import IGNORED
from vlmo_jax.models.build import abstract_model, check_model, count_params, model_maker
from vlmo_jax.models.build import random_params as random_params_of
from vlmo_jax.models.segmenter import count_params as count_by_fields
from vlmo_jax.objectives.pixel_classes import pixel_losses
from vlmo_jax.tasks.protocols import SETTLED
from vlmo_jax.tasks.segment import AUXILIARY, MAIN, SegmentTask

SMALL = {
    "kind": "image_segmenter",
    "image_size": 32,
    "patch_size": 8,
    "width": 8,
    "depth": 4,
    "num_upper": 2,
    "num_heads": 2,
    "mlp_dim": 16,
    "num_classes": 5,
    "head_channels": 4,
    "auxiliary_channels": 6,
    "blocks": (0, 1, 2, 3),
    "pooled_parts": (1, 2, 3, 6),
    "layer_scale": 0.1,
}


def test_pixels_without_a_label_cost_nothing():
    logits = jnp.array([[[[2.0, 0.0]], [[0.0, 0.0]]]])  # 2 x 1 pixels
    loss, right = pixel_losses(logits, jnp.array([[[0], [IGNORED]]], jnp.uint8))
    np.testing.assert_allclose(loss, np.log1p(np.exp(-2.0)), rtol=1e-5)
    assert right == 1
    mask = np.full((1, 2, 1), IGNORED, np.uint8)
    assert pixel_losses(logits, mask)[0] == 0
    assert SegmentTask(mean_over="all").counts({"mask": mask})[MAIN] == 2
    assert SegmentTask().counts({"mask": mask})[MAIN] == 1  # nothing is divided by nothing


def test_a_batch_moves_the_running_statistics_alike_in_parts():
    graphdef, _ = abstract_model(model_maker(SMALL))
    params = random_params_of(model_maker(SMALL), 0)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.normal(size=(4, 32, 32, 3)).astype(np.float32),
        "mask": rng.integers(0, 5, (4, 32, 32)).astype(np.uint8),
    }
    task = SegmentTask()
    build = lambda params: nnx.merge(graphdef, params)

    @jax.jit
    def both(params):
        prepared = task.prepare(batch, params, {}, {})
        key = jax.random.key(0)
        one = task.gradients(build, params, prepared, key, 1)
        return one, task.gradients(build, params, prepared, key, 2)

    (grads, one), (_, parts) = both(params)
    moved, before = flatten(one[SETTLED]), flatten(params)
    assert len(moved) == 2 * 14 and all(path[-1].startswith("running_") for path in moved)
    assert all(np.any(np.asarray(value != before[path])) for path, value in moved.items())
    for path, value in flatten(parts[SETTLED]).items():
        if path[-1] == "running_mean" and path[0] == "scales":  # means of means
            np.testing.assert_allclose(value, moved[path], atol=1e-5)
    assert all(not np.any(np.asarray(flatten(grads)[path])) for path in moved)
    assert one["loss"] == pytest.approx(float(one[MAIN] + 0.4 * one[AUXILIARY]), rel=1e-5)


def test_sizes_are_counted_and_impossible_ones_refused():
    fields = {**SMALL, "position": "relative", "drop_path_rate": 0.0, "init_std": 0.02}
    fields |= {"dtype": "float32", "remat": "none", "head_dropout": 0.1}
    check_model(fields, (1, 1, 1))
    _, state = abstract_model(model_maker(fields))
    assert count_by_fields(fields) == count_params(nnx.to_pure_dict(state))
    for changes, why in (
        ({"blocks": (0, 1, 2, 4)}, r"blocks=\(0, 1, 2, 4\) has \[4\]"),
        ({"image_size": 8}, "image_size=8 is one patch"),
    ):
        with pytest.raises(ConfigError, match=why):
            check_model({**fields, **changes}, (1, 1, 1))
