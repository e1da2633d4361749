"""Multi-head self-attention with an additive position bias."""

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.layers.linear import INIT_STD, param, truncated_normal


class SelfAttention(nnx.Module):
    """Self-attention of VLMo and BEiT: biases on queries and values, none on keys.

    Source: official `Attention`; q is scaled before the product, logits and softmax are float32.
    """

    def __init__(self, width, num_heads, *, dtype=jnp.float32, init_std=INIT_STD, rngs):
        head_width = width // num_heads
        zeros = nnx.initializers.zeros
        self.dtype = dtype
        self.scale = head_width**-0.5
        matrix = truncated_normal(init_std)
        self.qkv = param(
            matrix, (width, 3, num_heads, head_width), ("embed", None, "heads", None), rngs
        )
        self.q_bias = param(zeros, (num_heads, head_width), ("heads", None), rngs)
        self.v_bias = param(zeros, (num_heads, head_width), ("heads", None), rngs)
        self.out = param(matrix, (num_heads, head_width, width), ("heads", None, "embed"), rngs)
        self.out_bias = param(zeros, (width,), (None,), rngs)

    def __call__(self, x, *, mask=None, bias=None, read=None):
        """Attends from the tokens that are read to all tokens.

        Args:
            x: [B, N, D].
            mask: [B, N] bool, True for keys that may be seen; None: all.
            bias: [H, N, N] float32, query by key; None: no bias.
            read: [B, R] int32, positions whose output is needed; None: all N.

        Returns:
            [B, N or R, D] in the compute type.
        """
        kernel = self.qkv[...].astype(self.dtype)
        x = x.astype(self.dtype)
        if read is None:
            q, k, v = jnp.einsum("bnd,dthk->tbhnk", x, kernel)
        else:
            q = jnp.einsum("brd,dhk->bhrk", read_tokens(x, read), kernel[:, 0])
            k, v = jnp.einsum("bnd,dthk->tbhnk", x, kernel[:, 1:])
        q = (q + self.q_bias[...].astype(self.dtype)[:, None]) * self.scale
        v = v + self.v_bias[...].astype(self.dtype)[:, None]
        logits = jnp.einsum("bhqk,bhmk->bhqm", q, k, preferred_element_type=jnp.float32)
        if bias is not None:
            logits += bias if read is None else jnp.moveaxis(bias[:, read], 1, 0)
        if mask is not None:
            logits = jnp.where(mask[:, None, None], logits, -jnp.inf)
        weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
        y = jnp.einsum("bhqm,bhmk->bqhk", weights, v)
        y = jnp.einsum("bqhk,hkd->bqd", y, self.out[...].astype(self.dtype))
        return y + self.out_bias[...].astype(self.dtype)


def read_tokens(x, positions):
    """Picks tokens `positions` [B, R] from `x` [B, N, D]: [B, R, D]."""
    return jnp.take_along_axis(x, positions[:, :, None], axis=1)
