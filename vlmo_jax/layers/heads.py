"""Heads that read the Transformer's states."""

import math

import jax.numpy as jnp
from flax import nnx

from vlmo_jax.layers.linear import INIT_STD, LayerNorm, Linear, gelu, param


class Pooler(nnx.Module):
    """tanh(dense(first token)), BERT's pooler: [B, D] -> [B, D]."""

    def __init__(self, width, *, dtype=jnp.float32, init_std=INIT_STD, rngs):
        self.dense = Linear(width, width, dtype=dtype, init_std=init_std, rngs=rngs)

    def __call__(self, first_token):
        return jnp.tanh(self.dense(first_token))


class MaskedLanguageHead(nnx.Module):
    """BERT's prediction head: dense, GELU, LayerNorm, decoder that is not tied to the word table."""

    def __init__(self, width, vocab_size, *, dtype=jnp.float32, init_std=INIT_STD, rngs):
        self.dense = Linear(width, width, dtype=dtype, init_std=init_std, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=1e-12, rngs=rngs)
        self.decoder = Linear(
            width, vocab_size, axes=("embed", "vocab"), dtype=dtype, init_std=init_std, rngs=rngs
        )

    def __call__(self, x):
        """States [..., D] to logits [..., V] float32."""
        return self.decoder(self.norm(gelu(self.dense(x)))).astype(jnp.float32)


class Classifier(nnx.Module):
    """The head of VQA and NLVR2: dense, LayerNorm, GELU, dense to the classes.

    Source: the official `vqa_classifier` and `nlvr2_classifier`, torch's default epsilon 1e-5
    included.
    """

    def __init__(
        self, in_features, hidden, num_classes, *, dtype=jnp.float32, init_std=INIT_STD, rngs
    ):
        self.dense = Linear(in_features, hidden, dtype=dtype, init_std=init_std, rngs=rngs)
        self.norm = LayerNorm(hidden, epsilon=1e-5, rngs=rngs)
        self.out = Linear(hidden, num_classes, dtype=dtype, init_std=init_std, rngs=rngs)

    def __call__(self, x):
        """Features [..., in_features] to logits [..., num_classes] float32."""
        return self.out(gelu(self.norm(self.dense(x)))).astype(jnp.float32)


class ContrastiveProjection(nnx.Module):
    """Projects the first token of each modality to one space and L2-normalises it, with a
    temperature.

    `logit_scale` holds the logarithm of the scale, initially log(1/0.07), never clamped.
    """

    def __init__(self, width, *, dtype=jnp.float32, init_std=INIT_STD, rngs):
        self.image = Linear(width, width, use_bias=False, dtype=dtype, init_std=init_std, rngs=rngs)
        self.text = Linear(width, width, use_bias=False, dtype=dtype, init_std=init_std, rngs=rngs)
        self.logit_scale = param(nnx.initializers.constant(math.log(1 / 0.07)), (), (), rngs)

    def project_image(self, first_token):
        """[B, D] -> [B, D] float32 of length 1."""
        return l2_normalize(self.image(first_token))

    def project_text(self, first_token):
        """[B, D] -> [B, D] float32 of length 1."""
        return l2_normalize(self.text(first_token))


def l2_normalize(x):
    """Divides by the Euclidean length over the last axis, in float32."""
    x = x.astype(jnp.float32)
    return x / jnp.sqrt(jnp.square(x).sum(-1, keepdims=True))
