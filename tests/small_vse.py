"""A very small VSE-infinity over regions, or over images, with its batches."""

import jax
import numpy as np
from flax import nnx

from configs import common, vse_infinity
from tests import tiny
from vlmo_jax.models.build import abstract_model
from vlmo_jax.recipes import Recipe

R, F, VOCAB, LENGTH, BATCH = 4, 8, 48, 8, 8
MODEL = dict(
    embed_width=16, width=16, depth=1, num_heads=2, mlp_dim=32, vocab_size=VOCAB, text_length=LENGTH
)
IMAGES = dict(
    image_size=16, patch_size=8, image_width=16, image_depth=1, image_heads=2, image_mlp_dim=32
)


def config(*, images=False, model=(), task=(), **fields):
    """The tiny recipe at this size; `model` and `task` are mappings, other fields top-level."""
    config = vse_infinity.get_config("tiny" if images else "tiny_grid")
    config.model.update(MODEL)
    if images:
        config.model.update(IMAGES)
    else:
        config.model.update(num_regions=R, region_width=F, region_mlp=8)
    config.model.update(dict(model))
    config.task.update({"warmup_steps": 1, "mask_duplicates": False, **dict(task)})
    config.optimizer = common.optimizer(learning_rate=1e-2, warmup_steps=0, no_decay=())
    config.optimizer.epsilon = 1e-3  # the noise of gradients that are zero stays noise
    config.update({"batch_size": BATCH, "steps": 10, **fields})
    return config


def make_batch(*, images=False, seed=0):
    """A training batch as the input pipeline gives it."""
    rng = np.random.default_rng(seed)
    texts = tiny.make_batch(BATCH, length=LENGTH, seed=seed)
    batch = {name: texts[name] for name in ("token_ids", "token_mask", "image_id", "text_id")}
    if images:
        return {**batch, "image": rng.integers(0, 256, (BATCH, 16, 16, 3), np.uint8)}
    mask = np.arange(R) < rng.integers(1, R + 1, (BATCH, 1))
    regions = rng.normal(size=(BATCH, R, F)).astype(np.float32) * mask[..., None]
    return {
        **batch,
        "regions": regions,
        "boxes": np.zeros((BATCH, R, 5), np.float32),
        "region_mask": mask,
    }


def params(config, seed=0):
    """Random parameters, larger than initial ones."""
    rng = np.random.default_rng(seed)
    shapes = nnx.to_pure_dict(abstract_model(Recipe(config).make_model)[1])

    def draw(path, leaf):
        values = rng.normal(0, 0.3, leaf.shape)
        near_one = path[-1].key in ("scale", "running_variance")
        return (np.abs(values + 1) if near_one else values).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def model(config, values):
    """The module with the parameters `values`."""
    return nnx.merge(abstract_model(Recipe(config).make_model)[0], values)
