"""Text and image embeddings."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.linear import INIT_STD, LayerNorm, dropout, param, per_row, truncated_normal
from vlmo_jax.layers.products import product
from vlmo_jax.parallel.sharding import constrain


class TextEmbedding(nnx.Module):
    """LayerNorm(word + type row 0 [+ position]) with dropout: BERT's embedding as VLMo uses it.

    The row of the pad token is not zero but gets no gradient (torch's `padding_idx`).

    Args:
        vocab_size: V.
        width: D.
        positions: rows of the position table, the longest text; None: no positions.
        pad_id: token that pads texts.
        dropout_rate: of the result.
        dtype: type of the result.
        init_std: deviation that the tables start from.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        *,
        positions: int | None = None,
        pad_id: int = 0,
        dropout_rate: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        normal = truncated_normal(init_std)
        self.dtype, self.pad_id, self.dropout_rate = dtype, pad_id, dropout_rate
        self.word = param(normal, (vocab_size, width), ("vocab", "embed"), rngs)
        # BERT's two segment rows. VLMo reads row 0 only; the official optimizer decays both.
        self.segment = param(normal, (2, width), (None, "embed"), rngs)
        self.position = (
            param(normal, (positions, width), (None, "embed"), rngs) if positions else None
        )
        self.norm = LayerNorm(width, epsilon=1e-12, rngs=rngs)

    def __call__(
        self,
        token_ids: jax.Array,
        key: jax.Array | None = None,
        *,
        segments: jax.Array | None = None,
        second: jax.Array | None = None,
        first: int | jax.Array = 0,
    ) -> jax.Array:
        """Embeds texts.

        Args:
            token_ids: [B, T] int32.
            key: turns dropout on.
            segments: [B, T] int32 of 0 and 1, which segment row is added; None: row 0.
            second: [D], what stands behind the first token, without position or segment; None:
                nothing.
            first: position of the first token in its text; may be traced.

        Returns:
            [B, T, D] in the compute type; [B, 1 + T, D] with a `second`.
        """
        x = look_up(self.word[...], token_ids)
        x = jnp.where(token_ids[..., None] == self.pad_id, jax.lax.stop_gradient(x), x)
        x = x + (per_row(self.segment[0], x) if segments is None else self.segment[...][segments])
        if self.position is not None:
            length = token_ids.shape[1]
            x = x + per_row(jax.lax.dynamic_slice_in_dim(self.position[...], first, length), x)
        if second is not None:
            row = jnp.broadcast_to(second, (len(x), 1, x.shape[-1]))
            x = jnp.concatenate([x[:, :1], row, x[:, 1:]], axis=1)
        return dropout(self.norm(x), self.dropout_rate, key).astype(self.dtype)


class TokenEmbedding(nnx.Module):
    """word + position: the text embedding of CLIP.

    Args:
        vocab_size: V.
        width: D.
        positions: rows of the position table, the longest text.
        dtype: type of the result.
        init_std: deviation that the words start from; positions start from half of it.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        *,
        positions: int,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        self.dtype = dtype
        normal, half = truncated_normal(init_std), truncated_normal(init_std / 2)
        self.word = param(normal, (vocab_size, width), ("vocab", "embed"), rngs)
        self.position = param(half, (positions, width), (None, "embed"), rngs)

    def __call__(self, token_ids: jax.Array) -> jax.Array:
        """Embeds `token_ids` [B, T] int32 to [B, T, D]."""
        x = look_up(self.word[...], token_ids)
        return (x + per_row(self.position[: token_ids.shape[1]], x)).astype(self.dtype)


def look_up(table: jax.Array, token_ids: jax.Array) -> jax.Array:
    """The rows of a word table [V, D] for tokens [B, T] int32: [B, T, D]."""
    # Gathered before rows of it are taken: else the rows change places.
    table = constrain(table, "vocab", None)
    return constrain(jnp.take(table, token_ids, axis=0), "batch")


class ImageEmbedding(nnx.Module):
    """[class token; linear patches] [+ position], as in ViT.

    Args:
        image_size, patch_size: pixels a side; the size divides by the patch.
        width: D.
        positions: whether learned positions are added.
        mask_token: whether there is a token for patches that are hidden, as in BEiT.
        bias: whether patches have a bias; CLIP's have none.
        dtype: compute type.
        init_std: deviation that the parameters start from.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        *,
        positions: bool = False,
        mask_token: bool = False,
        bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        normal = truncated_normal(init_std)
        self.dtype, self.patch_size = dtype, patch_size
        num_tokens = (image_size // patch_size) ** 2 + 1
        self.patch = param(normal, (patch_size * patch_size * 3, width), (None, "embed"), rngs)
        self.patch_bias = param(nnx.initializers.zeros, (width,), (None,), rngs) if bias else None
        self.class_token = param(normal, (width,), (None,), rngs)
        self.position = (
            param(normal, (num_tokens, width), (None, "embed"), rngs) if positions else None
        )
        self.mask_token = param(normal, (width,), (None,), rngs) if mask_token else None

    def __call__(self, image: jax.Array, hidden: jax.Array | None = None) -> jax.Array:
        """Embeds images.

        Args:
            image: [B, S, S, 3], normalised.
            hidden: [B, P-1] bool, patches in whose place the mask token stands. They keep their
                position. None: none.

        Returns:
            [B, P, D] in the compute type.
        """
        x = self._project(split_patches(image, self.patch_size))
        if hidden is not None:
            assert self.mask_token is not None, "this embedding was made without a mask token"
            x = jnp.where(hidden[..., None], self.mask_token[...].astype(self.dtype), x)
        x = self._after_class_token(x)
        if self.position is None:
            return x
        return x + per_row(self.position[...].astype(self.dtype), x)

    def _project(self, patches: jax.Array) -> jax.Array:
        """Pixels of patches [B, P, p*p*3] to [B, P, D]."""
        x = product("bpc,cd->bpd", patches, self.patch[...], self.dtype)
        if self.patch_bias is None:
            return x
        return x + per_row(self.patch_bias[...].astype(self.dtype), x)

    def _after_class_token(self, x: jax.Array) -> jax.Array:
        """The class token before patches: [B, P, D] to [B, 1 + P, D]."""
        shape = (x.shape[0], 1, x.shape[-1])
        first = jnp.broadcast_to(self.class_token[...].astype(self.dtype), shape)
        return jnp.concatenate([first, x], axis=1)


def split_patches(image: jax.Array, patch_size: int) -> jax.Array:
    """Cuts [B, S, S, C] into patches [B, (S/p)^2, p*p*C] row by row, each in (row, column, channel)
    order.
    """
    batch, height, width, channels = image.shape
    rows, columns = height // patch_size, width // patch_size
    x = image.reshape(batch, rows, patch_size, columns, patch_size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)


def normalize_image(
    image: jax.Array | np.ndarray, mean: Sequence[float], std: Sequence[float]
) -> jax.Array | np.ndarray:
    """(image / 255 - mean) / std.

    Args:
        image: [..., 3] uint8, or float: normalised already.
        mean, std: a number of [0, 1] each channel.

    Returns:
        [..., 3] float32; a float image comes back as it is.
    """
    if image.dtype != jnp.uint8:
        return image
    scaled = jnp.asarray(image.astype(jnp.float32) / 255.0)
    centred = scaled - per_row(jnp.asarray(mean, jnp.float32), scaled)
    return centred / per_row(jnp.asarray(std, jnp.float32), centred)
