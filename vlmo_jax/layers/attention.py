"""Multi-head attention: of tokens to each other, to a memory, and to tokens that are cached.

A mask is bool, True where a query may see a key: [B, N], the same keys for all queries, or query by
key, [B, N, N], or [1, N, N] for all rows of a batch. A query that may see no key gives NaN. Two
masks are joined by `&`: `token_mask[:, None] & causal_mask(length)`. A mask [B, N] of rows that are
padded at their end is better given as PaddedAtEnd: fused kernels take no other.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.attention_paths import KeyValues, PaddedAtEnd, attend, takes_cudnn
from vlmo_jax.layers.linear import INIT_STD, param, per_row, scaled, truncated_normal
from vlmo_jax.layers.products import product

Mask = jax.Array | np.ndarray | PaddedAtEnd | None  # see above


class SelfAttention(nnx.Module):
    """Attention of tokens to each other.

    Args:
        width: D.
        num_heads: H; heads are D / H wide.
        key_bias: whether keys have a bias, as in BERT, ViT and CLIP; VLMo and BEiT have none.
        path: how attention is computed, one of attention_paths.PATHS.
        dtype: compute type.
        init_std: deviation that matrices start from.

    Source: official `Attention`; q is scaled before the product, logits and softmax are float32.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        key_bias: bool = False,
        path: str = "xla",
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        head_width = width // num_heads
        zeros = nnx.initializers.zeros
        self.dtype, self.path = dtype, path
        self.scale = head_width**-0.5
        matrix, heads = truncated_normal(init_std), (num_heads, head_width)
        self.qkv = param(matrix, (width, 3, *heads), ("embed", None, "heads", None), rngs)
        self.q_bias = param(zeros, heads, ("heads", None), rngs)
        self.k_bias = param(zeros, heads, ("heads", None), rngs) if key_bias else None
        self.v_bias = param(zeros, heads, ("heads", None), rngs)
        self.out = param(matrix, (*heads, width), ("heads", None, "embed"), rngs)
        self.out_bias = param(zeros, (width,), (None,), rngs)

    def __call__(
        self,
        x: jax.Array,
        *,
        mask: Mask = None,
        bias: jax.Array | None = None,
        read: jax.Array | None = None,
        gamma: jax.Array | None = None,
    ) -> jax.Array:
        """Attends from the tokens that are read to all tokens.

        Args:
            x: [B, N, D].
            mask: [B, N], [B, N, N] or [1, N, N] bool, or PaddedAtEnd, see above; None: every key is
                seen.
            bias: [H, N, N] float32, query by key; None: no bias.
            read: [B, R] int32, positions whose output is needed; None: all N.
            gamma: [D], what the outputs are multiplied by; None: by nothing.

        Returns:
            [B, N or R, D] in the compute type.
        """
        kernel = self.qkv[...]
        visible = by_query(mask)
        bias = None if bias is None else bias[None]
        if read is not None:
            q = product("brd,dhk->bhrk", read_tokens(x, read), kernel[:, 0], self.dtype)
            k, v = product("bnd,dthk->tbhnk", x, kernel[:, 1:], self.dtype)
            visible, bias = _read_queries(visible, read), _read_queries(bias, read)
            q, seen = self._with_biases(q, k, v)
        elif self._takes_cudnn(x, mask=visible, biased=bias is not None):
            q, seen = self._by_rows(x)
        else:
            q, seen = self._with_biases(*product("bnd,dthk->tbhnk", x, kernel, self.dtype))
        y = attend(q, seen, mask=visible, bias=bias, scale=self.scale, path=self.path)
        return self.join(y, gamma=gamma)

    def _with_biases(self, q, k, v):
        q = _add_bias(q, self.q_bias)
        return q, KeyValues(_add_bias(k, self.k_bias), _add_bias(v, self.v_bias))

    def _takes_cudnn(self, x, *, mask, biased):
        rows, tokens, _ = x.shape
        shape = (rows, *self.q_bias.shape[:1], tokens, *self.q_bias.shape[1:])
        return takes_cudnn(self.path, shape, self.dtype, mask=mask, biased=biased)

    def _by_rows(self, x):
        """Queries, keys and values [B, H, N, K] as views of what three products write, [B, N, H K].

        cuDNN's kernel reads them so; those of one product would all be moved. The biases are added
        to the rows before they are cut into heads, which cuBLAS does in the product.
        """
        rows, tokens, width = x.shape
        heads, parts = self.q_bias.shape, []
        for part, bias in enumerate((self.q_bias, self.k_bias, self.v_bias)):
            y = product("bnd,df->bnf", x, self.qkv[:, part].reshape(width, -1), self.dtype)
            if bias is not None:
                y += per_row(bias[...].reshape(-1).astype(self.dtype), y)
            parts.append(y.reshape(rows, tokens, *heads).swapaxes(1, 2))
        return parts[0], KeyValues(*parts[1:])

    def empty_cache(self, batch_size: int, length: int) -> KeyValues:
        """The cache of `extend` for sequences of up to `length` tokens: zeros [B, H, length, K]."""
        num_heads, head_width = self.q_bias.shape
        zeros = jnp.zeros((batch_size, num_heads, length, head_width), self.dtype)
        return KeyValues(zeros, zeros)

    def extend(
        self,
        x: jax.Array,
        cache: KeyValues,
        position: int | jax.Array,
        *,
        mask: jax.Array | np.ndarray,
        bias: jax.Array | None = None,
        gamma: jax.Array | None = None,
    ) -> tuple[jax.Array, KeyValues]:
        """Attends from the next tokens of a sequence to the cached ones and to each other.

        The outputs are those of a call with the whole sequence, the same mask and the same bias.

        Args:
            x: [B, S, D], tokens `position` .. `position` + S - 1 of the sequence.
            cache: of `empty_cache`, or of the call before; L places.
            position: of the first token of `x`; may be traced.
            mask: [B or 1, S, L] bool, which places the tokens of `x` see: their rows of the mask of
                the whole sequence. None may see a place that is not filled yet: see `causal_mask`
                and `prefix_mask`.
            bias: [H, S, L] float32, likewise; None: no bias.
            gamma: as in a call.

        Returns:
            [B, S, D] in the compute type, and the cache with the keys and values of `x`.
        """
        q, new = self.project(x)
        put = lambda old, part: jax.lax.dynamic_update_slice_in_dim(old, part, position, axis=2)
        cache = KeyValues(put(cache.keys, new.keys), put(cache.values, new.values))
        bias = None if bias is None else bias[None]
        sums = attend(q, cache, mask=by_query(mask), bias=bias)
        return self.join(sums, gamma=gamma), cache

    def project(self, x: jax.Array) -> tuple[jax.Array, KeyValues]:
        """[B, N, D] -> scaled queries [B, H, N, K], keys and values, in the compute type."""
        q, k, v = product("bnd,dthk->tbhnk", x, self.qkv[...], self.dtype)
        q = _add_bias(q, self.q_bias) * self.scale
        return q, KeyValues(_add_bias(k, self.k_bias), _add_bias(v, self.v_bias))

    def join(self, sums: jax.Array, *, gamma: jax.Array | None = None) -> jax.Array:
        """What `attend` gives, [B, N, H, K], through the output's matrix: [B, N, D]."""
        return _join_heads(sums, scaled(self.out[...], gamma), scaled(self.out_bias[...], gamma))


class CrossAttention(nnx.Module):
    """Attention of tokens to a memory: of a text to an image, say.

    Args:
        width: D of the tokens.
        memory_width: D' of the memory.
        num_heads: H.
        head_width: K; None: D / H.
        key_bias: whether keys have a bias.
        dtype: compute type.
        init_std: deviation that matrices start from.

    Source: ALBEF (arXiv 2107.07651), ViLBERT (arXiv 1908.02265); computed as in `SelfAttention`.
    """

    def __init__(
        self,
        width: int,
        memory_width: int,
        num_heads: int,
        *,
        head_width: int | None = None,
        key_bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        head_width = head_width or width // num_heads
        zeros = nnx.initializers.zeros
        self.dtype = dtype
        self.scale = head_width**-0.5
        matrix, heads = truncated_normal(init_std), (num_heads, head_width)
        self.q = param(matrix, (width, *heads), ("embed", "heads", None), rngs)
        self.kv = param(matrix, (memory_width, 2, *heads), ("embed", None, "heads", None), rngs)
        self.q_bias = param(zeros, heads, ("heads", None), rngs)
        self.k_bias = param(zeros, heads, ("heads", None), rngs) if key_bias else None
        self.v_bias = param(zeros, heads, ("heads", None), rngs)
        self.out = param(matrix, (*heads, width), ("heads", None, "embed"), rngs)
        self.out_bias = param(zeros, (width,), (None,), rngs)

    def __call__(
        self, x: jax.Array, memory: jax.Array, *, mask: jax.Array | None = None
    ) -> jax.Array:
        """Attends from tokens to a memory.

        Args:
            x: [B, N, D].
            memory: [B, M, D'].
            mask: [B, M] bool, True for places of the memory that may be seen; None: all.

        Returns:
            [B, N, D] in the compute type.
        """
        return self.read(x, self.remember(memory), mask=mask)

    def remember(self, memory: jax.Array) -> KeyValues:
        """Keys and values of a memory [B, M, D'], which do not depend on who reads them."""
        k, v = product("bnd,dthk->tbhnk", memory, self.kv[...], self.dtype)
        return KeyValues(_add_bias(k, self.k_bias), _add_bias(v, self.v_bias))

    def read(self, x: jax.Array, memory: KeyValues, *, mask: jax.Array | None = None) -> jax.Array:
        """As a call, with the keys and values of `remember` in the place of the memory."""
        q = product("bnd,dhk->bhnk", x, self.q[...], self.dtype)
        q = _add_bias(q, self.q_bias) * self.scale
        sums = attend(q, memory, mask=by_query(mask))
        return _join_heads(sums, self.out[...], self.out_bias[...])


def causal_mask(length: int) -> np.ndarray:
    """The mask [1, length, length] of tokens that see themselves and what comes before them."""
    return np.tri(length, dtype=bool)[None]


def prefix_mask(in_prefix: np.ndarray) -> np.ndarray:
    """The mask of a prefix that every token sees, followed by tokens that see what comes before.

    Tokens of the prefix see the prefix alone: an image, whose caption is written word by word.

    Args:
        in_prefix: [N] bool, True for tokens of the prefix, which may stand anywhere: in VLMo's
            order [text; image] it comes last.

    Returns:
        [1, N, N] bool, query by key.
    """
    in_prefix = np.asarray(in_prefix)
    earlier = np.tri(len(in_prefix), dtype=bool) & ~in_prefix[:, None]
    return (in_prefix[None] | earlier)[None]


def read_tokens(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Picks tokens `positions` [B, R] from `x` [B, N, D]: [B, R, D]."""
    return jnp.take_along_axis(x, positions[:, :, None], axis=1)


def by_query(mask: Mask) -> jax.Array | PaddedAtEnd | None:
    """A mask of one of the forms above as [B or 1, 1, N or 1, N]; PaddedAtEnd as it is."""
    if mask is None or isinstance(mask, PaddedAtEnd):
        return mask
    mask = jnp.asarray(mask)
    return mask[:, None, None] if mask.ndim == 2 else mask[:, None]


def _read_queries(values, read):
    """The rows of the queries `read` [B, R] of a mask or bias [B or 1, H or 1, N or 1, N]."""
    if values is None or isinstance(values, PaddedAtEnd) or values.shape[2] == 1:
        return values
    if len(values) == 1:
        return jnp.moveaxis(jnp.asarray(values[0])[:, read], 1, 0)
    return jnp.take_along_axis(values, read[:, None, :, None], axis=2)


def _add_bias(x, bias):
    """`x` [B, H, N, K] and a parameter [H, K] in the type of `x`; None: no bias."""
    return x if bias is None else x + per_row(bias[...].astype(x.dtype)[:, None], x)


def _join_heads(x, out, out_bias):
    """The output matrix [H, K, D] and its bias [D] on sums of values [B, Q, H, K]: [B, Q, D]."""
    y = product("bqhk,hkd->bqd", x, out, x.dtype)
    return y + per_row(out_bias.astype(x.dtype), y)
