"""VLMo: one Transformer that encodes images, texts, or both fused.

Source: "VLMo: Unified Vision-Language Pre-Training with Mixture-of-Modality-Experts",
arXiv 2111.02358, and the official code where the two differ (it made the published weights).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.layers import relative_position
from vlmo_jax.layers.embeddings import ImageEmbedding, TextEmbedding
from vlmo_jax.layers.heads import ContrastiveProjection, MaskedLanguageHead, Pooler
from vlmo_jax.layers.linear import INIT_STD, Linear, param, truncated_normal
from vlmo_jax.layers.transformer import MomeTransformer

# The two contrastive branches: states served by the modality's own experts, and states that go
# through the upper blocks with the vision-language expert.
IMAGE_BRANCHES = ("image", "vision_language")
TEXT_BRANCHES = ("text", "vision_language")


class VLMo(nnx.Module):
    """The model of pre-training stage 3: MoME Transformer, pooler, ITC, ITM and MLM heads.

    Args:
      image_size, patch_size: pixels a side; the size divides by the patch.
      text_length: T, tokens a text is padded to.
      text_positions: longest text the position tables are made for (official: 196, stage 2's).
      vocab_size: V.
      width, depth, num_heads, mlp_dim: sizes of the Transformer.
      num_upper: blocks with a vision-language expert.
      position: "relative" (bias table) or "absolute" (learned embeddings).
      layer_scale: initial gamma or None.
      drop_path_rate: rate of the last block, and of the dropout of the text embedding.
      init_std: deviation of the cut normal that matrices and embeddings start from.
      remat, scan_layers, dtype: see MomeTransformer.

    Shapes of a batch: image [B, S, S, 3] normalised, token_ids [B, T], token_mask [B, T] bool.
    """

    def __init__(
        self, *, image_size, patch_size, text_length, text_positions, vocab_size, width, depth, num_heads, mlp_dim, num_upper,
        position, layer_scale=None, drop_path_rate=0.0, remat="none", scan_layers=True, dtype=jnp.float32,
        init_std=INIT_STD, rngs,
    ):  # fmt: skip
        self.grid, self.text_positions = image_size // patch_size, text_positions
        relative, layers = position == "relative", dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.text_embedding = TextEmbedding(
            vocab_size, width, positions=None if relative else text_length, dropout_rate=drop_path_rate, **layers
        )
        self.image_embedding = ImageEmbedding(image_size, patch_size, width, positions=not relative, **layers)
        self.modality_type = param(truncated_normal(init_std), (2, width), (None, "embed"), rngs)
        self.transformer = MomeTransformer(
            depth, num_upper, width, num_heads, mlp_dim, layer_scale=layer_scale,
            table_rows=relative_position.num_rows(self.grid, text_positions) if relative else None,
            drop_path_rate=drop_path_rate, remat=remat, scan_layers=scan_layers, **layers,
        )  # fmt: skip
        self.relative = relative
        self.pooler = Pooler(width, **layers)
        self.itc = ContrastiveProjection(width, **layers)
        self.itc_vl = ContrastiveProjection(width, **layers)
        self.itm_head = Linear(width, 2, **layers)
        self.mlm_head = MaskedLanguageHead(width, vocab_size, **layers)

    def embed_text(self, token_ids, key=None):
        """[B, T] int32 -> [B, T, D] with the modality type added; `key` turns dropout on."""
        x = self.text_embedding(token_ids, key)
        return x + self.modality_type[0].astype(x.dtype)

    def embed_image(self, image):
        """[B, S, S, 3] -> [B, P, D] with the modality type added."""
        x = self.image_embedding(image)
        return x + self.modality_type[1].astype(x.dtype)

    def encode_image(self, image, *, branches=("image",), read=None, key=None):
        """Encodes images alone; image embeddings in, states of each branch out.

        Args:
          image: [B, P, D] of `embed_image`.
          branches: experts of the upper blocks, one a branch.
          read: [B, R] int32, positions that are read (the class token is 0); None: all.
          key: turns drop-path on.

        Returns:
          [B, G, P or R, D], after the final norm.
        """
        index = relative_position.image_index(self.grid) if self.relative else None
        return self.transformer(image, (("image", image.shape[1]),), branches, index=index, read=read, key=key)

    def encode_text(self, text, token_mask, *, branches=("text",), read=None, key=None):
        """Encodes texts alone: [B, T, D] of `embed_text` to [B, G, T or R, D]; see `encode_image`."""
        spans, index = (("text", text.shape[1]),), None
        if self.relative:
            index = relative_position.text_index(self.grid, text.shape[1], self.text_positions)
        return self.transformer(text, spans, branches, mask=token_mask, index=index, read=read, key=key)

    def encode_fused(self, text, token_mask, image, *, read=None, key=None):
        """Encodes [text; image] jointly: [B, T, D] and [B, P, D] to [B, T+P or R, D].

        Text comes first, so that positions 0 .. T-1 of the result are the text's.
        """
        x = jnp.concatenate([text, image], axis=1)
        spans = (("text", text.shape[1]), ("image", image.shape[1]))
        mask = jnp.pad(token_mask, ((0, 0), (0, image.shape[1])), constant_values=True)
        index = None
        if self.relative:
            index = relative_position.joint_index(self.grid, text.shape[1], self.text_positions)
        return self.transformer(x, spans, ("vision_language",), mask=mask, index=index, read=read, key=key)[:, 0]

    def image_features(self, image, key=None):
        """ITC features of both branches from images [B, S, S, 3]: two arrays [B, D] of length 1."""
        x = self.embed_image(image)
        states = self.encode_image(x, branches=IMAGE_BRANCHES, read=first_token(len(x)), key=key)[:, :, 0]
        return self.itc.project_image(states[:, 0]), self.itc_vl.project_image(states[:, 1])

    def text_features(self, token_ids, token_mask, key=None):
        """ITC features of both branches from texts [B, T]: two arrays [B, D] of length 1."""
        embed_key, encode_key = (None, None) if key is None else jax.random.split(key)
        x = self.embed_text(token_ids, embed_key)
        states = self.encode_text(x, token_mask, branches=TEXT_BRANCHES, read=first_token(len(x)), key=encode_key)[:, :, 0]
        return self.itc.project_text(states[:, 0]), self.itc_vl.project_text(states[:, 1])

    def retrieval_image(self, image):
        """The dual encoder's image feature, [B, S, S, 3] -> [B, D]: the V/L branch alone."""
        x = self.embed_image(image)
        return self.itc.project_image(self.encode_image(x, read=first_token(len(x)))[:, 0, 0])

    def retrieval_text(self, token_ids, token_mask):
        """The dual encoder's text feature, [B, T] -> [B, D]: the V/L branch alone."""
        x = self.embed_text(token_ids)
        return self.itc.project_text(self.encode_text(x, token_mask, read=first_token(len(x)))[:, 0, 0])

    def match(self, image, token_ids, token_mask):
        """Log-odds that image and text belong together, by the ITM head: [B] float32."""
        read = first_token(len(token_ids))
        states = self.encode_fused(self.embed_text(token_ids), token_mask, self.embed_image(image), read=read)
        logits = self.itm_head(self.pooler(states[:, 0])).astype(jnp.float32)
        return logits[:, 1] - logits[:, 0]


def first_token(batch_size):
    """The positions [B, 1] of heads that read the first token only."""
    return jnp.zeros((batch_size, 1), jnp.int32)
