"""Heads that read the Transformer's states."""

import math
import string
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.linear import INIT_STD, LayerNorm, Linear, gelu, param, per_row
from vlmo_jax.layers.products import product


class Pooler(nnx.Module):
    """tanh(dense(first token)), BERT's pooler."""

    def __init__(
        self,
        width: int,
        *,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        self.dense = Linear(width, width, dtype=dtype, init_std=init_std, rngs=rngs)

    def __call__(self, first_token: jax.Array) -> jax.Array:
        """[B, D] -> [B, D] in the compute type."""
        return jnp.tanh(self.dense(first_token))


class MaskedLanguageHead(nnx.Module):
    """BERT's prediction head: dense, GELU, LayerNorm, and a decoder that is not the word table."""

    def __init__(
        self,
        width: int,
        vocab_size: int,
        *,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        self.dense = Linear(width, width, dtype=dtype, init_std=init_std, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=1e-12, rngs=rngs)
        self.decoder = Linear(
            width, vocab_size, axes=("embed", "vocab"), dtype=dtype, init_std=init_std, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """States [..., D] to logits [..., V] float32."""
        return self.decoder(self.norm(gelu(self.dense(x)))).astype(jnp.float32)


class TiedLanguageHead(nnx.Module):
    """BERT's prediction head, whose decoder is the word table."""

    def __init__(
        self,
        width: int,
        vocab_size: int,
        *,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        self.dtype = dtype
        self.dense = Linear(width, width, dtype=dtype, init_std=init_std, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=1e-12, rngs=rngs)
        self.bias = param(nnx.initializers.zeros, (vocab_size,), ("vocab",), rngs)

    def __call__(self, x: jax.Array, words: jax.Array) -> jax.Array:
        """States [..., D] and the word table [V, D] to logits [..., V] float32."""
        x = self.norm(gelu(self.dense(x)))
        rows = string.ascii_lowercase[: x.ndim - 1]
        logits = product(f"{rows}y,zy->{rows}z", x, words, self.dtype).astype(jnp.float32)
        return logits + per_row(self.bias[...], logits)


class Classifier(nnx.Module):
    """The head of VQA and NLVR2: dense, LayerNorm, GELU, dense to the classes.

    Source: the official `vqa_classifier` and `nlvr2_classifier`, torch's default epsilon 1e-5
    included.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        num_classes: int,
        *,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        self.dense = Linear(in_features, hidden, dtype=dtype, init_std=init_std, rngs=rngs)
        self.norm = LayerNorm(hidden, epsilon=1e-5, rngs=rngs)
        self.out = Linear(hidden, num_classes, dtype=dtype, init_std=init_std, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [..., in_features] to logits [..., num_classes] float32."""
        return self.out(gelu(self.norm(self.dense(x)))).astype(jnp.float32)


class ContrastiveProjection(nnx.Module):
    """Projections of image and text to one space, where they have length 1, and their temperature.

    `logit_scale` holds the logarithm of the scale, initially log(1/0.07); what keeps it in bounds
    is `config.optimizer.limits`.

    Args:
        width: D of the image's states.
        text_width: of the text's; None: D too.
        out_width: of the space; None: D too.
        dtype: compute type.
        init_std: deviation that matrices start from.
    """

    def __init__(
        self,
        width: int,
        *,
        text_width: int | None = None,
        out_width: int | None = None,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        layers: dict[str, Any] = dict(use_bias=False, dtype=dtype, init_std=init_std, rngs=rngs)
        self.image = Linear(width, out_width or width, **layers)
        self.text = Linear(text_width or width, out_width or width, **layers)
        self.logit_scale = param(nnx.initializers.constant(math.log(1 / 0.07)), (), (), rngs)

    def project_image(self, first_token: jax.Array) -> jax.Array:
        """[B, D] -> [B, D of the space] float32 of length 1."""
        return l2_normalize(self.image(first_token))

    def project_text(self, first_token: jax.Array) -> jax.Array:
        """[B, D of the text] -> [B, D of the space] float32 of length 1."""
        return l2_normalize(self.text(first_token))


def l2_normalize(x: jax.Array) -> jax.Array:
    """Divides by the Euclidean length over the last axis, in float32."""
    x = x.astype(jnp.float32)
    return x / jnp.sqrt(jnp.square(x).sum(-1, keepdims=True))
