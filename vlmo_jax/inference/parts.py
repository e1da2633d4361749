"""What goes into a model, and what comes out of its tokenizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.input.text.tokenizer import Tokenizer


class Loaded(NamedTuple):
    """What a model is made of, beside its parameters.

    Attributes:
        name: the checkpoint.
        meta: saved with it.
        config: of the run.
        tokenizer: of its texts, None where there is none.
        answers: that it chooses from by id, None where they are not known.
        graphdef: of the module.
        mesh: of the devices.
        classes: that it was trained to choose from by number, None where they are not known.
    """

    name: Path
    meta: Mapping[str, Any]
    config: ConfigDict
    tokenizer: Tokenizer | None
    answers: tuple[str, ...] | None
    graphdef: nnx.GraphDef
    mesh: jax.sharding.Mesh
    classes: tuple[str, ...] | None = None


class Tokens(NamedTuple):
    """Texts as the model reads them.

    Attributes:
        token_ids: int32 [N, T].
        token_mask: bool [N, T], False on padding.
    """

    token_ids: np.ndarray
    token_mask: np.ndarray
