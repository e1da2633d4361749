"""A step of training a segmenter is that of the reference: loss, running statistics, parameters."""

import jax
import numpy as np
import pytest

from tests import tiny
from tests.paths import DATA
from vlmo_jax.interop.beit_segmenter import from_beit_segmenter, segmenter_fields, to_beit_segmenter
from vlmo_jax.interop.checks.beit_segment import (
    GRADIENT_FLOOR,
    GRADIENT_TOLERANCE,
    RUNNING_TOLERANCE,
    TOLERANCES,
)
from vlmo_jax.interop.checks.reference import group, load_fixture
from vlmo_jax.tasks.segment import AUXILIARY, MAIN

ARRAYS, INFO = load_fixture(DATA / "downstream" / "beit_segment_small.json")
TENSORS = {**group(ARRAYS, "param"), **group(ARRAYS, "buffer")}
# With this epsilon, which counts twice as it is added before the bias is corrected, an update is as
# smooth as the gradient.
RATE, EPSILON, BETAS = 0.1, 0.5, (0.9, 0.75)
STRIDE = "evals.segmentation.stride=48"
OPTIMIZER = dict(learning_rate=RATE, epsilon=EPSILON, betas=BETAS, warmup_steps=0, weight_decay=0.0)


def config_of(sizes, heads):
    parts = tuple(INFO["config"]["pool_scales"])
    blocks = tuple(INFO["config"]["blocks_used"])
    config = tiny.parse("finetune_segment:tiny", "init_from=none", "steps=10", STRIDE)
    with config.unlocked():
        config.model.update(segmenter_fields(sizes, heads, blocks=blocks, parts=parts))
        config.model.head_dropout = 0.0
        config.optimizer.update(OPTIMIZER, layer_decay=1.0, no_decay=())
        config.batch_size = len(ARRAYS["in/labels"])
    return config


def test_a_step_is_that_of_the_reference():
    params, sizes, heads, _ = from_beit_segmenter(TENSORS)
    batch = {
        "image": ARRAYS["in/pixel_values"].transpose(0, 2, 3, 1),
        "mask": ARRAYS["in/labels"],
    }
    mesh = tiny.mesh_of((1, 1, 1))
    with jax.set_mesh(mesh), jax.default_matmul_precision("highest"):
        program = tiny.program(config_of(sizes, heads), mesh)
        state, metrics = program.step(tiny.state(program, params), {}, program.place_batch(batch))
        metrics, params = jax.device_get((metrics, state.params))
    for name, theirs in (("loss", "loss"), (MAIN, "loss_main"), (AUXILIARY, "loss_aux")):
        assert metrics[name] == pytest.approx(
            float(ARRAYS[f"train/{theirs}"]), abs=TOLERANCES["loss"]
        )
    after = to_beit_segmenter(params, sizes, huggingface=True)
    for name, wanted in group(ARRAYS, "train_after").items():
        np.testing.assert_allclose(
            after[name], wanted, atol=RUNNING_TOLERANCE, rtol=0, err_msg=name
        )
    for name, gradient in group(ARRAYS, "train_grad").items():
        wanted = TENSORS[name] - RATE * gradient / (np.abs(gradient) + 2 * EPSILON)
        tolerance = RATE * (GRADIENT_TOLERANCE * np.abs(gradient).max() + GRADIENT_FLOOR) + 5e-7
        np.testing.assert_allclose(after[name], wanted, atol=tolerance, rtol=0, err_msg=name)
