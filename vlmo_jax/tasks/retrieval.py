"""Retrieval with a trained model: a dual encoder that ranks everything, a fusion encoder that
re-ranks the best.
"""

from typing import NamedTuple

import jax
from flax import nnx

from vlmo_jax.layers.embeddings import normalize_image


class Encoders(NamedTuple):
    """Jitted functions of (params, batch of global arrays), rows in and rows out.

    Attributes:
        encode_image: {"image" uint8 [B, S, S, 3]} -> [B, D] float32 of length 1.
        encode_text: {"token_ids", "token_mask" [B, T]} -> [B, D] float32 of length 1.
        match: all three -> [B] float32, log-odds of "matched" by the ITM head.
    """

    encode_image: jax.stages.Wrapped
    encode_text: jax.stages.Wrapped
    match: jax.stages.Wrapped


def make_encoders(
    graphdef: nnx.GraphDef, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> Encoders:
    """Builds the functions from a model's graphdef; `mean` and `std` normalise images as in
    training.
    """

    def encode_image(params, batch):
        return nnx.merge(graphdef, params).retrieval_image(
            normalize_image(batch["image"], mean, std)
        )

    def encode_text(params, batch):
        return nnx.merge(graphdef, params).retrieval_text(batch["token_ids"], batch["token_mask"])

    def match(params, batch):
        model = nnx.merge(graphdef, params)
        return model.match(
            normalize_image(batch["image"], mean, std), batch["token_ids"], batch["token_mask"]
        )

    return Encoders(jax.jit(encode_image), jax.jit(encode_text), jax.jit(match))
