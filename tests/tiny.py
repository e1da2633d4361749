"""A very small VLMo with its batches, for tests that need the whole model."""

import functools

import jax
import numpy as np
from flax import nnx

from configs import common, stage3
from tests.paths import ROOT
from vlmo_jax.commands.command_line import read_config
from vlmo_jax.models.build import abstract_model
from vlmo_jax.parallel.sharding import make_mesh
from vlmo_jax.recipes import Recipe
from vlmo_jax.training import program as programs

VOCAB, LENGTH, MASKED, SIZE, BATCH = 48, 8, 3, 16, 8
MODEL = dict(
    depth=3,
    num_upper=1,
    width=16,
    num_heads=2,
    mlp_dim=32,
    image_size=SIZE,
    patch_size=8,
    text_length=LENGTH,
    text_positions=12,
    vocab_size=VOCAB,
    position="relative",
    layer_scale=0.1,
    drop_path_rate=0.0,
    init_std=0.02,
    scan_layers=True,
    remat="none",
)


def config(model=(), optimizer=(), **fields):
    """The tiny recipe at the size above; `model` and `optimizer` are mappings, other fields
    top-level ones.
    """
    config = stage3.get_config("tiny")
    config.model.update({**MODEL, **dict(model)})
    config.optimizer = common.optimizer(learning_rate=0.01, warmup_steps=2)
    config.optimizer.update(dict(optimizer))
    config.data.max_masked_tokens = MASKED
    config.update({"batch_size": BATCH, "steps": 10, **fields})
    return config


def parse(recipe, *arguments):
    """The config of a command line: `parse("stage3:base", "steps=3")`."""
    name, _, size = recipe.partition(":")
    return read_config(
        f"{ROOT}/configs/{name}.py:{size}", dict(argument.split("=", 1) for argument in arguments)
    )


def make_batch(batch_size=BATCH, *, length=LENGTH, size=SIZE, seed=0):
    """A training batch as the input pipeline gives it."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, length + 1, batch_size)
    lengths[0] = length
    token_mask = np.arange(length) < lengths[:, None]
    token_ids = np.where(token_mask, rng.integers(5, VOCAB, (batch_size, length)), 0).astype(
        np.int32
    )
    masked = dict(
        mlm_positions=np.zeros((batch_size, MASKED), np.int32),
        mlm_labels=np.full((batch_size, MASKED), -1, np.int32),
    )
    mlm_token_ids = token_ids.copy()
    for row in range(batch_size):
        places = rng.choice(
            np.arange(1, lengths[row] - 1), min(1 + row % MASKED, lengths[row] - 2), replace=False
        )
        masked["mlm_positions"][row, : len(places)] = places
        masked["mlm_labels"][row, : len(places)] = token_ids[row, places]
        mlm_token_ids[row, places] = 4
    return dict(
        image=rng.integers(0, 256, (batch_size, size, size, 3), np.uint8),
        token_ids=token_ids,
        token_mask=token_mask,
        mlm_token_ids=mlm_token_ids,
        **masked,
        image_id=np.arange(batch_size, dtype=np.uint32) + 7,
        text_id=np.arange(batch_size, dtype=np.uint32) + 1000,
    )


@functools.lru_cache
def _model(fields):
    return abstract_model(Recipe(config(dict(fields))).make_model)


def graphdef(**fields):
    """The graphdef of a model; `fields` change its config."""
    return _model(tuple(fields.items()))[0]


def params(seed=0, **fields):
    """Random parameters, much larger than initial ones, so that every part of the model shows in
    its outputs.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = rng.normal(0, 0.3, leaf.shape)
        return (values + 1 if path[-1].key == "scale" else values).astype(np.float32)

    return jax.tree_util.tree_map_with_path(
        draw, nnx.to_pure_dict(_model(tuple(fields.items()))[1])
    )


def model(values, **fields):
    """The module with the parameters `values`."""
    return nnx.merge(graphdef(**fields), values)


def mesh_of(shape, devices=None):
    """A (data, fsdp, tensor) mesh of the first devices."""
    devices = devices or jax.devices()[: int(np.prod(shape))]
    return make_mesh(dict(zip(("data", "fsdp", "tensor"), shape)), devices)


def program(config, mesh):
    """The train program of a config on a mesh; call it, and what it makes, inside
    `jax.set_mesh(mesh)`.
    """
    return programs.build_program(Recipe(config), mesh)


def state(program, values):
    """A first TrainState with the parameters `values`, laid out as the program wants it."""
    state = program.update.first_state(values)
    return jax.tree.map(
        lambda x, sharding: jax.device_put(np.array(x), sharding), state, program.shardings
    )
