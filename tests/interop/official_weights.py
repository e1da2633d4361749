"""Weights of official VLMo checkpoints, as their files hold them."""

import numpy as np

from tests.paths import DATA


def weights(name):
    """Tensor name -> array, of a small reference of tests/data/vlmo."""
    with np.load(DATA / "vlmo" / f"{name}.npz") as arrays:
        tensors = {
            key.removeprefix("param/"): arrays[key] for key in arrays if key.startswith("param/")
        }
        return tensors | {
            key.removeprefix("buffer/"): arrays[key] for key in arrays if key.startswith("buffer/")
        }
