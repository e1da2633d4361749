"""A very small ALBEF with its batches, and two steps of it on a mesh."""

import jax
import numpy as np
from flax import nnx

from configs import albef
from tests import tiny
from vlmo_jax.models.build import abstract_model, abstract_params, model_maker
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.program import build_program

QUEUE, STEPS = 16, 2
MODEL = dict(
    image_size=tiny.SIZE,
    patch_size=8,
    vision_width=24,
    vision_depth=1,
    vision_num_heads=2,
    vision_mlp_dim=32,
    text_length=tiny.LENGTH,
    text_positions=12,
    vocab_size=tiny.VOCAB,
    width=16,
    num_heads=2,
    mlp_dim=32,
    depth=1,
    fusion_depth=1,
    embed_dim=16,
    dropout_rate=0.0,
    scan_layers=True,
)
# With this epsilon an update is a smooth function of the gradients: noise stays noise.
OPTIMIZER = dict(epsilon=1e-4, warmup_steps=0, learning_rate=1e-2)


def config(model=(), task=(), **fields):
    """The tiny recipe at the size above."""
    config = albef.get_config("tiny")
    config.model.update({**MODEL, **dict(model)})
    config.task.update({"queue_size": QUEUE, "alpha_steps": 4, "momentum": 0.9, **dict(task)})
    config.optimizer.update({**OPTIMIZER, "rate_multipliers": ()})
    config.data.max_masked_tokens = tiny.MASKED
    config.update({"batch_size": tiny.BATCH, "steps": 10, **fields})
    return config


def params(config, seed=0):
    """Random parameters, much larger than initial ones, so that every part shows."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = rng.normal(0, 0.3, leaf.shape)
        if path[-1].key == "temperature":
            return np.float32(0.2)
        return (values + 1 if path[-1].key == "scale" else values).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, abstract_params(model_maker(config.model)))


def program(config, shape, devices=None):
    """The program of a config on a mesh."""
    mesh = tiny.mesh_of(shape, devices)
    with jax.set_mesh(mesh):
        return build_program(Recipe(config), mesh)


def first_state(program):
    """A state with the parameters of `params`; call it inside the mesh."""
    values = params(program.config)
    state = jax.jit(program.update.first_state)(values)
    return jax.tree.map(
        lambda x, sharding: jax.make_array_from_callback(
            x.shape, sharding, lambda index: np.asarray(x)[index]
        ),
        state,
        program.shardings,
    )


def whole_batch(step):
    """Batch number `step`."""
    return tiny.make_batch(seed=step)


def take_steps(program, steps=STEPS, first=0, state=None):
    """The state on the devices after some steps, and the metrics of each."""
    metrics = []
    with jax.set_mesh(program.mesh):
        state = first_state(program) if state is None else state
        for step in range(first, first + steps):
            rows = tiny.BATCH // jax.process_count()
            start = rows * jax.process_index()
            own = {name: x[start : start + rows] for name, x in whole_batch(step).items()}
            state, measured = program.step(state, {}, program.place_batch(own))
            metrics.append(jax.device_get(measured))
    return state, metrics


def model(values, config):
    """The module with the parameters `values`."""
    return nnx.merge(abstract_model(model_maker(config.model))[0], values)
