"""How a model that fuses texts with images writes texts, from left to right."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.layers import cached_transformer
from vlmo_jax.layers.attention import prefix_mask


class CaptionWriter(nnx.Module):
    """The part of VLMo that `tasks.abilities.WritesCaptions` asks for, on its layers and its word
    head.
    """

    embed_text: Any
    embed_image: Any
    fuse: Any
    fused_index: Any
    transformer: Any
    mlm_head: Any
    grid: int

    def caption_logits(
        self,
        image: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Logits of words at all places of captions, each from the image and what stands before it
        and at it: [B, S, S, 3] and [B, T] to [B, T, V] float32; `key` turns dropout on.

        The image sees no text: text is written from left to right, as in UniLM.
        """
        embed_key, encode_key = (None, None) if key is None else jax.random.split(key)
        text, x = self.embed_text(token_ids, embed_key), self.embed_image(image)
        real = jnp.pad(token_mask, ((0, 0), (x.shape[1], 0)), constant_values=True)
        mask = real[:, None] & self._caption_mask(token_ids.shape[1])
        read = jnp.broadcast_to(jnp.arange(token_ids.shape[1]), token_ids.shape)
        return self.mlm_head(self.fuse(text, x, mask, read=read, key=encode_key))

    def start_captions(self, image: jax.Array, length: int) -> cached_transformer.Cache:
        """What `continue_captions` needs to know of images [B, S, S, 3] to write captions of up to
        `length` tokens.
        """
        x = self.embed_image(image)
        cache = cached_transformer.empty_cache(self.transformer, len(x), length + x.shape[1])
        return self._extend(x, "image", cache, 0)[1]

    def continue_captions(
        self, token_ids: jax.Array, position: int | jax.Array, cache: cached_transformer.Cache
    ) -> tuple[jax.Array, cached_transformer.Cache]:
        """Reads the next tokens of captions: the logits of `caption_logits`, with the work of these
        tokens alone.

        Args:
            token_ids: [B, S] int32, that stand at `position` and behind it.
            position: may be traced.
            cache: of `start_captions`, or of the call before. What stood at these places before
                is forgotten.

        Returns:
            Logits [B, V] float32 at the last of them, and the cache.
        """
        text = self.embed_text(token_ids, first=position)
        states, cache = self._extend(text, "text", cache, self._patches + position)
        return self.mlm_head(states[:, -1]), cache

    def _extend(self, x, expert, cache, position):
        length = cache.length - self._patches
        return cached_transformer.extend(
            self.transformer,
            x,
            expert,
            "vision_language",
            cache,
            position,
            mask=self._caption_mask(length),
            index=self.fused_index(length),
        )

    @property
    def _patches(self):
        """P, the tokens of an image, which come before those of its caption."""
        return self.grid**2 + 1

    def _caption_mask(self, length):
        """Which of [image; text] see which: [1, N, N]."""
        return prefix_mask(np.arange(self._patches + length) < self._patches)
