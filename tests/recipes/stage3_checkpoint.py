"""A checkpoint of stage 3 at 32 pixels, to fine-tune from at other sizes."""

import jax
import numpy as np

from tests import tiny
from vlmo_jax.checkpoints.store import save_params
from vlmo_jax.models.build import abstract_params
from vlmo_jax.recipes import Recipe

SMALL = (
    "model.depth=2",
    "model.width=16",
    "model.num_heads=2",
    "model.mlp_dim=32",
    "model.position=relative",
    "steps=4",
    "batch_size=8",
    "optimizer.warmup_steps=1",
    "optimizer.learning_rate=1e-3",
    "checkpoint.every_steps=4",
    "log_every=1",
)


def save_stage3(workdir):
    """Saves random parameters as a run would, and returns its work folder as a text."""
    config = tiny.parse("stage3:tiny,32", *SMALL, "data.split=train[:8]")
    recipe = Recipe(config)
    recipe.open()
    rng = np.random.default_rng(0)
    shapes = abstract_params(recipe.make_model)
    params = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(x.dtype), shapes)
    save_params(workdir / "checkpoints", params, recipe.meta())
    return str(workdir)
