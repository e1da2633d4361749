"""A very small ViLT with its batches, of images of several shapes."""

import functools

import jax
import numpy as np
from flax import nnx

from configs import common, vilt
from tests import tiny
from vlmo_jax.models.build import abstract_model
from vlmo_jax.recipes import Recipe

SIZE, LONGEST, PATCH = 16, 26, 8
MODEL = dict(
    image_size=SIZE,
    longest_side=LONGEST,
    patch_size=PATCH,
    sampled_patches=0,
    text_length=tiny.LENGTH,
    vocab_size=tiny.VOCAB,
    width=16,
    depth=2,
    num_heads=2,
    mlp_dim=32,
    dropout_rate=0.0,
    scan_layers=True,
)


def config(model=(), optimizer=(), task="", **fields):
    """The tiny recipe, or one of fine-tuning, at the sizes above."""
    config = vilt.get_config(f"tiny,{task}" if task else "tiny")
    config.model.update({**MODEL, **dict(model)})
    config.optimizer = common.optimizer(learning_rate=0.01, warmup_steps=2, no_decay=vilt.NO_DECAY)
    config.optimizer.update(dict(optimizer))
    if "max_masked_tokens" in config.data and config.data.max_masked_tokens:
        config.data.max_masked_tokens = tiny.MASKED
    config.update({"batch_size": tiny.BATCH, "steps": 10, **fields})
    return config


def make_batch(batch_size=tiny.BATCH, seed=0):
    """A training batch as the input pipeline gives it."""
    rng = np.random.default_rng(seed)
    side = LONGEST // PATCH * PATCH
    grids = np.asarray([[2, 3], [3, 2], [2, 2], [1, 3]], np.int32)
    return {
        **tiny.make_batch(batch_size, seed=seed),
        "image": rng.integers(0, 256, (batch_size, side, side, 3), np.uint8),
        "image_grid": grids[rng.integers(0, len(grids), batch_size)],
    }


@functools.lru_cache
def _model(task, fields):
    return abstract_model(Recipe(config(dict(fields), task=task)).make_model)


def graphdef(task="", **fields):
    """The graphdef of a model; `fields` change its config."""
    return _model(task, tuple(fields.items()))[0]


def params(seed=0, task="", **fields):
    """Random parameters, much larger than initial ones."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = rng.normal(0, 0.3, leaf.shape)
        return (values + 1 if path[-1].key == "scale" else values).astype(np.float32)

    abstract = nnx.to_pure_dict(_model(task, tuple(fields.items()))[1])
    return jax.tree_util.tree_map_with_path(draw, abstract)


def on_one_device(shapes):
    """Shapes laid out on the first device, as a warm start wants them."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)
