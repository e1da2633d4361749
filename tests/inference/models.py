"""Small models with random parameters as runs would leave them, and pictures to ask them about."""

import jax
import numpy as np
from PIL import Image

from tests import tiny
from tests.recipes.stage3_checkpoint import SMALL
from vlmo_jax.checkpoints.store import save_params
from vlmo_jax.models.build import abstract_params
from vlmo_jax.recipes import Recipe


def save(workdir, recipe, *settings, change=lambda meta: meta):
    """Saves a checkpoint of a recipe and returns its work folder; `change` makes another meta."""
    opened = Recipe(tiny.parse(recipe, *SMALL, *settings))
    opened.open()
    rng = np.random.default_rng(0)
    shapes = abstract_params(opened.make_model)
    params = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(x.dtype), shapes)
    save_params(workdir / "checkpoints", params, change(opened.meta()))
    return workdir


def save_stage3(workdir, **options):
    """A checkpoint of stage 3 at 32 pixels and 16 tokens."""
    return save(workdir, "stage3:tiny,32", "data.split=train[:8]", **options)


def save_vqa(workdir, **options):
    """A checkpoint of fine-tuning on questions at 32 pixels."""
    return save(workdir, "finetune_vqa:tiny,32", "data.split=train[:8]", **options)


def save_caption(workdir, *settings):
    """A checkpoint of fine-tuning on captions at 32 pixels and 16 tokens."""
    settings = ("init_from=none", "data.split=train[:8]", *settings)
    return save(workdir, "finetune_caption:tiny,32", *settings)


def pictures(count, seed=0):
    """Arrays uint8 of different shapes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(20, 60, (count, 2))
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def save_picture(path, array, **options):
    """Writes an array as a picture and returns its path."""
    Image.fromarray(array).save(path, **options)
    return path
