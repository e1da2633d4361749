"""A very small ViLBERT with its batches, of regions and of images whose patches stand in."""

import functools

import jax
import numpy as np
from flax import nnx

from configs import common, vilbert
from tests import tiny
from vlmo_jax.models.build import abstract_model
from vlmo_jax.recipes import Recipe

REGIONS, WIDTH, CLASSES = 5, 12, 6
MODEL = dict(
    image_size=0,
    patch_size=0,
    num_regions=REGIONS,
    region_width=WIDTH,
    region_classes=CLASSES,
    text_length=tiny.LENGTH,
    text_positions=tiny.LENGTH,
    vocab_size=tiny.VOCAB,
    width=16,
    depth=2,
    num_heads=2,
    mlp_dim=32,
    vision_width=8,
    vision_depth=1,
    vision_num_heads=2,
    vision_mlp_dim=16,
    co_width=12,
    co_num_heads=2,
    co_blocks=(1,),
    vision_co_blocks=(0,),
    dropout_rate=0.0,
    scan_layers=False,
)
# Patches of images in the place of regions.
PATCHES = dict(image_size=tiny.SIZE, patch_size=8, num_regions=0, region_width=0)


def config(model=(), optimizer=(), task=(), **fields):
    """The tiny recipe at the sizes above, on regions; patches with `model=PATCHES`."""
    config = vilbert.get_config("base")
    config.model.update({**MODEL, **dict(model)})
    if config.model.patch_size:
        config.data = vilbert.get_config("tiny").data
    config.optimizer = common.optimizer(
        learning_rate=0.01, warmup_steps=2, no_decay=vilbert.NO_DECAY
    )
    config.optimizer.update(dict(optimizer))
    config.task.update(dict(task))
    config.data.max_masked_tokens = tiny.MASKED
    config.data.source, config.tokenizer = "/nowhere", "emoji"
    config.update({"batch_size": tiny.BATCH, "steps": 10, **fields})
    return config


def make_batch(seed=0):
    """A training batch as the input pipeline gives it, with regions and an image."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.random((tiny.BATCH, REGIONS, 2, 2), np.float32), axis=2)
    sides = corners[:, :, 1] - corners[:, :, 0]
    boxes = np.concatenate(
        [corners[:, :, 0], corners[:, :, 1], sides.prod(-1, keepdims=True)], axis=-1
    )
    mask = np.arange(REGIONS) < rng.integers(2, REGIONS + 1, tiny.BATCH)[:, None]
    classes = rng.random((tiny.BATCH, REGIONS, CLASSES), np.float32)
    real = mask[..., None]
    return {
        **tiny.make_batch(seed=seed),
        "regions": np.where(real, rng.normal(size=(tiny.BATCH, REGIONS, WIDTH)), 0).astype("f4"),
        "boxes": np.where(real, boxes, 0).astype(np.float32),
        "region_mask": mask,
        "region_classes": np.where(real, classes / classes.sum(-1, keepdims=True), 0),
    }


@functools.lru_cache
def _model(fields):
    return abstract_model(Recipe(config(dict(fields))).make_model)


def graphdef(**fields):
    """The graphdef of a model; `fields` change its config."""
    return _model(tuple(fields.items()))[0]


def params(seed=0, **fields):
    """Random parameters, much larger than initial ones."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = rng.normal(0, 0.3, leaf.shape)
        return (values + 1 if path[-1].key == "scale" else values).astype(np.float32)

    abstract = nnx.to_pure_dict(_model(tuple(fields.items()))[1])
    return jax.tree_util.tree_map_with_path(draw, abstract)


def model(**fields):
    """The module with the parameters of `params`."""
    return nnx.merge(graphdef(**fields), params(**fields))
