"""Mixup and CutMix on the devices: each image of a batch with its partner. The draws come with the
batch, see input/mixed_images.py.
"""

import jax
import jax.numpy as jnp


def mix_images(image: jax.Array, share: jax.Array, box: jax.Array) -> jax.Array:
    """Mixes each image with its partner, image B - 1 - i with image i.

    Args:
        image: [B, H, W, C] floats.
        share: [B] float32, of the image itself.
        box: [B, 4] int32, top, bottom, left and right of what the partner's pixels take the place
            of; where it is empty all pixels are blended by `share`.

    Returns:
        [B, H, W, C] in the type of `image`.

    Source: timm's Mixup, in its modes batch and elem; `input.images.mixup.mix_batch` is the same
    for arrays of the host.
    """
    partner = image[::-1]
    top, bottom, left, right = (box[:, side, None] for side in range(4))
    rows, columns = jnp.arange(image.shape[1])[None], jnp.arange(image.shape[2])[None]
    inside = ((top <= rows) & (rows < bottom))[:, :, None]
    inside &= ((left <= columns) & (columns < right))[:, None, :]
    weight = share[:, None, None, None].astype(image.dtype)
    blended = image * weight + partner * (1 - weight)
    cut = jnp.where(inside[..., None], partner, image)
    is_cut = (bottom > top) & (right > left)
    return jnp.where(is_cut[..., None, None], cut, blended)


def mix_targets(targets: jax.Array, share: jax.Array) -> jax.Array:
    """The targets [B, K] of mixed images, those of a partner with what `share` [B] leaves."""
    return targets * share[:, None] + targets[::-1] * (1.0 - share[:, None])
