"""DALL-E's discrete VAE: images to a grid of codes and back, the visual tokenizer of stage 1.

Source: "Zero-Shot Text-to-Image Generation", arXiv 2102.12092, appendix A.1, and the official code
(package dall_e), whose encoder this equals to rounding. Arrays are channels last here: images [B,
S, S, 3], grids [B, h, w, V] with h = w = S / stride.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.commands.config_errors import multiple
from vlmo_jax.commands.fields import Kind, Whole
from vlmo_jax.layers.conv import Conv, max_pool, upsample
from vlmo_jax.models.sizes import DEEPEST, DTYPE, SIZE, MeshShape, check_vocabulary
from vlmo_jax.parallel.sharding import constrain

# Pixels are mapped to [0.1, 0.9], so that their logits, which the decoder predicts, stay finite.
PIXEL_MARGIN = 0.1

# What the fields of `config.model` may be.
FIELDS: dict[str, Kind] = {
    "image_size": SIZE,
    "vocab_size": SIZE,
    "num_hidden": SIZE,
    "num_groups": Whole(above=0, high=16),
    "blocks_per_group": Whole(above=0, high=DEEPEST),
    "num_init": Whole(low=0, zero="half of num_hidden"),
    "dtype": DTYPE,
}


def map_pixels(image: jax.Array) -> jax.Array:
    """Pixels of [0, 1] to [0.1, 0.9], as the encoder reads them and the decoder predicts them."""
    return (1 - 2 * PIXEL_MARGIN) * image + PIXEL_MARGIN


def unmap_pixels(image: jax.Array) -> jax.Array:
    """The inverse of `map_pixels`, cut to [0, 1]."""
    return jnp.clip((image - PIXEL_MARGIN) / (1 - 2 * PIXEL_MARGIN), 0.0, 1.0)


class Block(nnx.Module):
    """path(x) + gain * residual(x): four convolutions after a ReLU each, at a fourth of the width;
    path is 1x1 or nothing.

    Args:
        in_features, out_features: channels; `out_features` is a multiple of 4.
        sizes: kernel sizes of the four convolutions.
        gain: of the residual, 1 / (blocks of the whole encoder or decoder)^2.
        dtype: compute type.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        sizes: Sequence[int],
        gain: float,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        hidden = out_features // 4
        layers: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.gain = gain
        self.path = (
            Conv(in_features, out_features, 1, **layers) if in_features != out_features else None
        )
        widths = (in_features, hidden, hidden, hidden, out_features)
        self.residual = nnx.Dict(
            {
                f"conv_{number}": Conv(widths[number - 1], widths[number], size, **layers)
                for number, size in enumerate(sizes, start=1)
            }
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, in] -> [B, h, w, out]."""
        y = x
        for number in range(1, len(self.residual) + 1):
            y = self.residual[f"conv_{number}"](jax.nn.relu(y))
        x = x if self.path is None else self.path(x)
        return constrain(x + self.gain * y, "batch")


class BlockGroups(nnx.Module):
    """Groups of blocks of one width each, named as in the official code: group_1 / block_1 and so
    on.

    Args:
        in_features: channels of the input.
        widths: channels of each group.
        blocks_per_group: blocks in each.
        between: function of [B, h, w, C] applied after each group but the last.
        sizes: kernel sizes in a block.
        dtype: compute type.
    """

    def __init__(
        self,
        in_features: int,
        widths: Sequence[int],
        blocks_per_group: int,
        *,
        between: Callable[[jax.Array], jax.Array],
        sizes: Sequence[int],
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        self.between = between
        gain = 1 / (len(widths) * blocks_per_group) ** 2
        self.groups: nnx.Dict = nnx.Dict()
        for number, width in enumerate(widths, start=1):
            blocks: nnx.Dict = nnx.Dict()
            for place in range(1, blocks_per_group + 1):
                blocks[f"block_{place}"] = Block(
                    in_features, width, sizes=sizes, gain=gain, dtype=dtype, rngs=rngs
                )
                in_features = width
            self.groups[f"group_{number}"] = blocks

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, C] to the last group's channels, at the size that `between` leaves."""
        for number in range(1, len(self.groups) + 1):
            x = x if number == 1 else self.between(x)
            blocks = self.groups[f"group_{number}"]
            for place in range(1, len(blocks) + 1):
                x = blocks[f"block_{place}"](x)
        return x


class DalleEncoder(nnx.Module):
    """Mapped pixels to logits of codes; see `DiscreteVAE`."""

    def __init__(
        self,
        num_hidden: int,
        num_groups: int,
        blocks_per_group: int,
        vocab_size: int,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        widths = [num_hidden * 2**number for number in range(num_groups)]
        self.input = Conv(3, num_hidden, 7, dtype=dtype, rngs=rngs)
        self.blocks = BlockGroups(
            num_hidden,
            widths,
            blocks_per_group,
            between=max_pool,
            sizes=(3, 3, 3, 1),
            dtype=dtype,
            rngs=rngs,
        )
        self.output = Conv(widths[-1], vocab_size, 1, axes=("embed", "vocab"), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, S, S, 3] -> [B, h, w, V] float32."""
        return self.output(jax.nn.relu(self.blocks(self.input(x))))


class DalleDecoder(nnx.Module):
    """Weights of codes to statistics of mapped pixels; see `DiscreteVAE`."""

    def __init__(
        self,
        num_hidden: int,
        num_init: int,
        num_groups: int,
        blocks_per_group: int,
        vocab_size: int,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ) -> None:
        widths = [num_hidden * 2**number for number in reversed(range(num_groups))]
        self.input = Conv(vocab_size, num_init, 1, axes=("vocab", "embed"), rngs=rngs)
        self.blocks = BlockGroups(
            num_init,
            widths,
            blocks_per_group,
            between=upsample,
            sizes=(1, 3, 3, 3),
            dtype=dtype,
            rngs=rngs,
        )
        self.output = Conv(num_hidden, 6, 1, axes=("embed", None), dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, V] -> [B, S, S, 6] float32."""
        return self.output(jax.nn.relu(self.blocks(self.input(x)))).astype(jnp.float32)


class DiscreteVAE(nnx.Module):
    """An encoder of images to codes and a decoder of codes to images.

    Args:
        vocab_size: V, number of codes (official: 8192).
        num_hidden: width of the first group of the encoder; each further group doubles it, the
            decoder mirrors that (256).
        num_groups: groups of blocks (4); between them the side is halved, so one code covers
            `stride` = 2^(num_groups - 1) pixels.
        blocks_per_group: blocks in a group (2).
        num_init: width into which the decoder embeds codes (128); 0: half of `num_hidden`.
        image_size: side of the images that it is trained on; None: not known. It has no part in the
            model, which takes images of every size that its stride divides.
        decoder: whether there is one; stage 1 needs the encoder alone.
        dtype: type that the blocks compute in. Logits of codes and the embedding of codes are
            float32 always, as in the official code, which computes the rest in float16 on GPUs.
    """

    decoder: Any  # None where there is none

    def __init__(
        self,
        *,
        vocab_size: int,
        num_hidden: int,
        num_groups: int = 4,
        blocks_per_group: int = 2,
        num_init: int = 0,
        image_size: int | None = None,
        decoder: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if num_hidden < 4 or num_hidden % 4:
            raise ValueError(
                f"num_hidden={num_hidden} must be a multiple of 4: a block works at a fourth of its"
                " width"
            )
        self.vocab_size, self.stride = vocab_size, 2 ** (num_groups - 1)
        if image_size is not None and image_size % self.stride:
            raise ValueError(f"image_size={image_size} must be a multiple of {self.stride}")
        sizes = (num_groups, blocks_per_group, vocab_size)
        self.encoder = DalleEncoder(num_hidden, *sizes, dtype=dtype, rngs=rngs)
        num_init = num_init or num_hidden // 2
        self.decoder = (
            DalleDecoder(num_hidden, num_init, *sizes, dtype=dtype, rngs=rngs) if decoder else None
        )

    def logits(self, image: jax.Array) -> jax.Array:
        """Logits of the code at each place of the grid.

        Args:
            image: [B, S, S, 3] float, pixels in [0, 1].

        Returns:
            [B, h, w, V] float32.

        Raises:
            ValueError: the image's side is not a multiple of the stride.
        """
        check_image_size(image.shape[1], self.stride)
        check_image_size(image.shape[2], self.stride)
        return self.encoder(map_pixels(image))

    def decode(self, weights: jax.Array) -> jax.Array:
        """What the decoder makes of weights of codes (one-hot, or relaxed in training).

        Args:
            weights: [B, h, w, V] float.

        Returns:
            [B, S, S, 6] float32: location and log scale of the logit-Laplace distribution of the
            three channels of mapped pixels.
        """
        return self.decoder(weights)


def check_sizes(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a discrete VAE that is impossible, or does not lie on the mesh.

    Args:
        fields: of `config.model`.
        mesh_shape: (data, fsdp, tensor).

    Raises:
        ConfigError: at the first impossible value.
    """
    num_groups, num_init, fsdp = fields["num_groups"], fields["num_init"], mesh_shape[1]
    stride = f"the tokenizer's stride, 2 ** (config.model.num_groups={num_groups} - 1)"
    multiple("model.image_size", fields["image_size"], 2 ** (num_groups - 1), stride)
    quarters = "4 x config.mesh.fsdp: a block works at a fourth of its width"
    multiple("model.num_hidden", fields["num_hidden"], 4 * fsdp, quarters)
    check_vocabulary(fields, mesh_shape)
    if num_init:
        multiple("model.num_init", num_init, fsdp, "config.mesh.fsdp")


def check_image_size(image_size: int, stride: int) -> None:
    """Refuses images that the pools of an encoder would not divide evenly.

    Raises:
        ValueError: `image_size` is not a multiple of `stride`.
    """
    if image_size % stride or not image_size:
        lower = image_size // stride * stride
        near = f"{lower} or {lower + stride}" if lower else f"{stride}"
        raise ValueError(
            f"image_size={image_size} is not a multiple of the tokenizer's stride of {stride}"
            f" pixels; use {near}"
        )


def pixels_from_statistics(statistics: jax.Array) -> jax.Array:
    """Images [B, S, S, 3] in [0, 1] from the decoder's statistics [B, S, S, 6]: the medians of the
    distributions.
    """
    return unmap_pixels(jax.nn.sigmoid(statistics[..., :3]))
