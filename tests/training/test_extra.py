"""State beside parameters and moments: averaged parameters, and what a task keeps."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.checkpoints.saved_params import load_params
from vlmo_jax.checkpoints.state import AVERAGED
from vlmo_jax.checkpoints.store import Checkpoints
from vlmo_jax.recipes import Recipe
from vlmo_jax.tasks.protocols import Prepared
from vlmo_jax.tasks.text_pretrain import TextPretrainTask
from vlmo_jax.training.program import build_program

MODEL = dict(experts=("image", "text"), heads=("mlm",))
DECAY, QUEUE, STEPS = 0.75, 16, 3


@dataclasses.dataclass(frozen=True)
class QueueTask(TextPretrainTask):
    """Stage 2 with a queue of the last texts, whose mean the accuracy is made to tell."""

    extra_axes: ClassVar = {"queue": ("batch", None)}

    def initial_extra(self, params):
        return {"queue": jnp.zeros((QUEUE, tiny.LENGTH), jnp.float32)}

    def prepare(self, batch, params, extra, frozen):
        newest = batch["mlm_token_ids"].astype(jnp.float32)
        queue = jnp.concatenate([newest, extra["queue"]])[:QUEUE]
        return Prepared(batch, extra["queue"].mean(), {"queue": queue})

    def sums(self, model, batch, context, key):
        sums = super().sums(model, batch, context, key)
        return {**sums, "mlm_accuracy": sums["mlm_accuracy"] + context}


def build(shape, **optimizer):
    """A program with a queue and averaged parameters."""
    config = tiny.config(MODEL, dict(warmup_steps=0, epsilon=1e-4, ema_decay=DECAY, **optimizer))
    recipe = Recipe(config)
    recipe.make_task = QueueTask
    mesh = tiny.mesh_of(shape)
    with jax.set_mesh(mesh):
        return build_program(recipe, mesh)


def run(program, state=None, steps=range(STEPS)):
    """The states after each update, as numpy, the last one on the devices, and the metrics."""
    states, metrics = [], []
    with jax.set_mesh(program.mesh):
        state = tiny.state(program, tiny.params(**MODEL)) if state is None else state
        for step in steps:
            batch = program.place_batch(tiny.make_batch(seed=step))
            state, measured = program.step(state, {}, batch)
            states.append(jax.device_get(state))
            metrics.append(jax.device_get(measured))
    return states, state, metrics


@pytest.fixture(scope="module")
def alone():
    return run(build((1, 1, 1)))


def test_averages_follow_the_parameters(alone):
    mean = tiny.params(**MODEL)
    for state in alone[0]:
        mean = jax.tree.map(lambda a, p: DECAY * a + (1 - DECAY) * p, mean, state.params)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            state.extra[AVERAGED],
            mean,
        )
    word = lambda tree: tree["text_embedding"]["word"]
    assert np.abs(word(mean) - word(alone[0][-1].params)).max() > 1e-3


def test_a_task_reads_what_it_kept_and_keeps_more(alone):
    texts = [tiny.make_batch(seed=step)["mlm_token_ids"] for step in range(STEPS)]
    np.testing.assert_array_equal(alone[0][-1].extra["queue"], np.concatenate([texts[2], texts[1]]))
    # What is right is counted in whole tokens; the rest is the mean of the queue before the step.
    for number, mean in ((0, 0.0), (1, texts[0].mean() / 2), (2, np.mean(texts[:2]))):
        count = (tiny.make_batch(seed=number)["mlm_labels"] >= 0).sum()
        right = alone[2][number]["mlm_accuracy"] * count - mean
        assert right == pytest.approx(round(float(right)), abs=1e-4) and right > -0.5


@pytest.mark.parametrize("shape", [(2, 2, 2)], ids=str)
def test_extra_state_is_the_same_on_every_mesh_and_lies_as_the_table_says(alone, shape):
    program = build(shape)
    states, state, _ = run(program)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), states[-1], alone[0][-1])
    queue = state.extra["queue"]
    assert queue.sharding.shard_shape(queue.shape) == (QUEUE // (shape[0] * shape[1]), tiny.LENGTH)
    same = lambda mean, param: mean.sharding.is_equivalent_to(param.sharding, mean.ndim)
    assert all(jax.tree.leaves(jax.tree.map(same, state.extra[AVERAGED], state.params)))


def test_a_restart_is_exact_and_averages_can_be_loaded(alone, tmp_path):
    program = build((1, 1, 1))
    _, state, _ = run(program, steps=range(2))
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    checkpoints.save(state, {"config": {}})
    with jax.set_mesh(program.mesh):
        restored = checkpoints.restore(2, program.abstract_state)
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), jax.device_get(state))
    states, _, _ = run(program, restored, steps=[2])
    jax.tree.map(np.testing.assert_array_equal, states[0], alone[0][-1])
    averaged, step, _ = load_params(tmp_path, program.abstract_state.params, averaged=True)
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, averaged, alone[0][1].extra[AVERAGED])
