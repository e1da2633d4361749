"""A very small visual tokenizer with random parameters, as a run of one leaves it."""

import jax
import numpy as np

from vlmo_jax.checkpoints import store
from vlmo_jax.checkpoints.state import TrainState
from vlmo_jax.models.build import abstract_params, model_maker

SIZES = dict(vocab_size=16, num_hidden=4, num_groups=3, blocks_per_group=1, num_init=0)


def save_visual_tokenizer(directory, *, kind="discrete_vae", decoder=True, **sizes):
    """Saves it in a work folder; returns its parameters."""
    fields = {**SIZES, **sizes}
    shapes = abstract_params(model_maker({"kind": "discrete_vae", **fields}, decoder=decoder))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)
    checkpoints = store.Checkpoints(directory / "checkpoints", keep_last=1)
    model = {"kind": kind, **fields, "image_size": 32, "dtype": "auto"}
    state = TrainState(np.asarray(3), params, {"none": np.zeros(1)}, {})
    checkpoints.save(state, {"config": {"model": model}})
    checkpoints.close()
    return params
