"""Retrieval with a trained model: a dual encoder that ranks everything, a fusion encoder that
re-ranks the best.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from flax import nnx

from vlmo_jax.tasks.visual import visual_input


class Encoders(NamedTuple):
    """Jitted functions of (params, batch of global arrays), rows in and rows out.

    Attributes:
        encode_image: what the model sees, such as {"image" uint8 [B, S, S, 3]}
            -> [B, D] float32 of length 1.
        encode_text: {"token_ids", "token_mask" [B, T]} -> [B, D] float32 of length 1.
        match: all of these -> [B] float32, how well they match: a member of MATCH_SCORES.
    """

    encode_image: jax.stages.Wrapped
    encode_text: jax.stages.Wrapped
    match: jax.stages.Wrapped


# What a pair's logits [B, 2] of "no match" and "match" are worth. The official codes take the
# second logit alone; the log-odds order pairs by the probability that they match.
MATCH_SCORES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "log_odds": lambda logits: logits[:, 1] - logits[:, 0],
    "logit": lambda logits: logits[:, 1],
}


def make_encoders(
    graphdef: nnx.GraphDef,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    match_score: str = "log_odds",
) -> Encoders:
    """Builds the functions from a model's graphdef.

    Args:
        graphdef: of a model.
        mean, std: normalise images, as in training.
        match_score: a name in MATCH_SCORES.
    """
    score = MATCH_SCORES[match_score]

    def encode_image(params, batch):
        return nnx.merge(graphdef, params).retrieval_image(visual_input(batch, mean, std))

    def encode_text(params, batch):
        return nnx.merge(graphdef, params).retrieval_text(batch["token_ids"], batch["token_mask"])

    def match(params, batch):
        image = visual_input(batch, mean, std)
        model = nnx.merge(graphdef, params)
        return score(model.pair_logits(image, batch["token_ids"], batch["token_mask"]))

    return Encoders(jax.jit(encode_image), jax.jit(encode_text), jax.jit(match))
