"""Text and image embeddings."""

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.layers.linear import INIT_STD, LayerNorm, dropout, param, truncated_normal
from vlmo_jax.parallel.sharding import constrain


class TextEmbedding(nnx.Module):
    """LayerNorm(word + type row 0 [+ position]) with dropout: BERT's embedding as VLMo uses it.

    The row of the pad token is not zero but gets no gradient (torch's `padding_idx`).
    """

    def __init__(
        self,
        vocab_size,
        width,
        *,
        positions=None,
        pad_id=0,
        dropout_rate=0.0,
        dtype=jnp.float32,
        init_std=INIT_STD,
        rngs,
    ):
        normal = truncated_normal(init_std)
        self.dtype, self.pad_id, self.dropout_rate = dtype, pad_id, dropout_rate
        self.word = param(normal, (vocab_size, width), ("vocab", "embed"), rngs)
        # BERT's two segment rows. VLMo reads row 0 only; the official optimizer decays both.
        self.segment = param(normal, (2, width), (None, "embed"), rngs)
        self.position = (
            param(normal, (positions, width), (None, "embed"), rngs) if positions else None
        )
        self.norm = LayerNorm(width, epsilon=1e-12, rngs=rngs)

    def __call__(self, token_ids, key=None):
        """Embeds `token_ids` [B, T] int32 to [B, T, D]; `key` turns dropout on."""
        table = constrain(
            self.word[...], "vocab", None
        )  # gathered before rows of it are taken: else the rows change places
        x = constrain(jnp.take(table, token_ids, axis=0), "batch")
        x = jnp.where(token_ids[..., None] == self.pad_id, jax.lax.stop_gradient(x), x)
        x = x + self.segment[0]
        if self.position is not None:
            x = x + self.position[: token_ids.shape[1]]
        return dropout(self.norm(x), self.dropout_rate, key).astype(self.dtype)


class ImageEmbedding(nnx.Module):
    """[class token; linear patches] [+ position] (ViT); with `mask_token`, patches can be hidden
    (BEiT).
    """

    def __init__(
        self,
        image_size,
        patch_size,
        width,
        *,
        positions=False,
        mask_token=False,
        dtype=jnp.float32,
        init_std=INIT_STD,
        rngs,
    ):
        normal = truncated_normal(init_std)
        self.dtype, self.patch_size = dtype, patch_size
        num_tokens = (image_size // patch_size) ** 2 + 1
        self.patch = param(normal, (patch_size * patch_size * 3, width), (None, "embed"), rngs)
        self.patch_bias = param(nnx.initializers.zeros, (width,), (None,), rngs)
        self.class_token = param(normal, (width,), (None,), rngs)
        self.position = (
            param(normal, (num_tokens, width), (None, "embed"), rngs) if positions else None
        )
        self.mask_token = param(normal, (width,), (None,), rngs) if mask_token else None

    def __call__(self, image, hidden=None):
        """Embeds `image` [B, S, S, 3], normalised, to [B, P, D].

        `hidden` [B, P-1] bool: patches in whose place the mask token stands. They keep their
        position.
        """
        patches = split_patches(image, self.patch_size).astype(self.dtype)
        x = patches @ self.patch[...].astype(self.dtype) + self.patch_bias[...].astype(self.dtype)
        if hidden is not None:
            x = jnp.where(hidden[..., None], self.mask_token[...].astype(self.dtype), x)
        first = jnp.broadcast_to(self.class_token[...].astype(self.dtype), (len(x), 1, x.shape[-1]))
        x = jnp.concatenate([first, x], axis=1)
        return x if self.position is None else x + self.position[...].astype(self.dtype)


def split_patches(image, patch_size):
    """Cuts [B, S, S, C] into row-major patches [B, (S/p)^2, p*p*C], each in (row, column, channel)
    order.
    """
    batch, height, width, channels = image.shape
    rows, columns = height // patch_size, width // patch_size
    x = image.reshape(batch, rows, patch_size, columns, patch_size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, -1)


def normalize_image(image, mean, std):
    """uint8 [..., 3] to float32 (image / 255 - mean) / std; `mean` and `std` are a triple each, of
    [0, 1].

    Float images are taken as normalised already and come back as they are.
    """
    if image.dtype != jnp.uint8:
        return image
    mean, std = (jnp.asarray(v, jnp.float32) for v in (mean, std))
    return (image.astype(jnp.float32) / 255.0 - mean) / std
