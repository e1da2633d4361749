"""The image encoder of VLMo and BEiT with heads that give each pixel a class.

Source: BEiT, arXiv 2106.08254, section 3.2, and the official code (unilm,
beit/semantic_segmentation) with mmsegmentation 0.11.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.commands.config_errors import multiple, require
from vlmo_jax.commands.fields import Extra, Flag, Kind, Number, Several, Whole
from vlmo_jax.layers.upernet import SCALES, ConvHead, Scales, UperNetHead
from vlmo_jax.models import flops, memory
from vlmo_jax.models.image_transformer import ImageTransformer
from vlmo_jax.models.sizes import SIZE, TRANSFORMER_FIELDS, MeshShape, check_transformer

POOLED_PARTS = (1, 2, 3, 6)
AUXILIARY_CHANNELS, AUXILIARY_GRID = 256, 2

# What the fields of `config.model` may be.
FIELDS: dict[str, Kind] = {
    **{name: kind for name, kind in TRANSFORMER_FIELDS.items() if name != "vocab_size"},
    "num_classes": Whole(above=1, high=255),
    "blocks": Several(Whole(low=0), SCALES, "four numbers of blocks, from 0"),
    "head_channels": SIZE,
    "auxiliary_channels": Extra(SIZE),
    "auxiliary_grid": Extra(Whole(low=0, high=SCALES - 1)),
    "pooled_parts": Extra(Several(SIZE, what="parts a side of each pooling")),
    "head_dropout": Number(low=0, below=1, zero="none"),
    "shared_table": Extra(Flag()),
    "norm_epsilon": Extra(Number(above=0)),
}


class ClassMaps(NamedTuple):
    """Logits of the classes at places of an image.

    Attributes:
        main: [B, 4 h, 4 w, K] float32, of a grid of h x w patches.
        auxiliary: [B, h, w, K] float32, which only training reads.
    """

    main: jax.Array
    auxiliary: jax.Array


class ImageSegmenter(ImageTransformer):
    """An image encoder; what four of its blocks give goes into UperNet.

    Neither a norm nor the class token does.

    Args:
        num_classes: K.
        blocks: numbers of the four blocks, from 0.
        head_channels: inside UperNet.
        auxiliary_channels: inside the auxiliary head.
        auxiliary_grid: which of the four scales the auxiliary head reads, from 0.
        pooled_parts: parts a side of each pooling of the coarsest scale.
        head_dropout: share of the channels that the last layers of the heads do not see.
        width, dtype, **encoder: see ImageTransformer.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        blocks: Sequence[int],
        head_channels: int,
        auxiliary_channels: int = AUXILIARY_CHANNELS,
        auxiliary_grid: int = AUXILIARY_GRID,
        pooled_parts: Sequence[int] = POOLED_PARTS,
        head_dropout: float = 0.0,
        width: int,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
        **encoder: Any,
    ) -> None:
        heads: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        super().__init__(width=width, mask_token=False, final_norm=False, **heads, **encoder)
        self.blocks, self.auxiliary_grid = tuple(blocks), auxiliary_grid
        self.head_dropout = head_dropout
        self.scales = Scales(width, **heads)
        self.head = UperNetHead(width, head_channels, num_classes, pooled_parts, **heads)
        self.auxiliary_head = ConvHead(width, auxiliary_channels, num_classes, **heads)

    def features(
        self, image: jax.Array, blocks: Sequence[int], key: jax.Array | None = None
    ) -> list[jax.Array]:
        """What chosen blocks give the patches.

        Args:
            image: [B, S, S, 3], normalised.
            blocks: numbers of the blocks, from 0; -1 is what goes into the first.
            key: turns drop-path on.

        Returns:
            Grids [B, h, w, D] in their order.
        """
        shape = (len(image), self.grid, self.grid, -1)
        states = self.block_states(image, blocks, key)
        return [state[:, 1:].reshape(shape) for state in states]

    def classify(
        self, features: Sequence[jax.Array], key: jax.Array | None = None, *, learning: bool = False
    ) -> ClassMaps:
        """Four grids [B, h, w, D] -> ClassMaps.

        Args:
            features: of `features`.
            key: turns dropout on.
            learning: normalise by the batch, and move the running statistics of this model.
        """
        keys = (None, None) if key is None else jax.random.split(key)
        scales = self.scales(features, learning=learning)
        heads: dict[str, Any] = dict(dropout=self.head_dropout, learning=learning)
        return ClassMaps(
            self.head(scales, key=keys[0], **heads),
            self.auxiliary_head(scales[self.auxiliary_grid], key=keys[1], **heads),
        )

    def class_maps(self, image: jax.Array) -> jax.Array:
        """Images [B, S, S, 3] -> logits of the classes [B, 4 h, 4 w, K] float32."""
        return self.classify(self.features(image, self.blocks)).main

    def learn_class_maps(self, image: jax.Array, key: jax.Array | None = None) -> ClassMaps:
        """As `class_maps` with the auxiliary head, normalised by the batch, whose statistics move
        the running ones of this model; `key` turns drop-path and dropout on.
        """
        keys = (None, None) if key is None else jax.random.split(key)
        return self.classify(self.features(image, self.blocks, keys[0]), keys[1], learning=True)


def check_sizes(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a segmenter that is impossible, or does not lie on the mesh."""
    check_transformer(fields, mesh_shape)
    wrong = [block for block in fields["blocks"] if block >= fields["depth"]]
    require(
        not wrong,
        f"config.model.blocks={tuple(fields['blocks'])} has {wrong}, and there are blocks 0 to"
        f" {fields['depth'] - 1}",
    )
    grid = fields["image_size"] // fields["patch_size"]
    require(
        grid >= 2,
        f"config.model.image_size={fields['image_size']} is one patch of"
        f" config.model.patch_size={fields['patch_size']}; half of the grid must be left",
    )
    for name in ("head_channels", "auxiliary_channels"):
        size = fields.get(name, AUXILIARY_CHANNELS)
        multiple(f"model.{name}", size, mesh_shape[1], "config.mesh.fsdp")
        multiple(f"model.{name}", size, mesh_shape[2], "config.mesh.tensor")


def count_params(fields: Mapping[str, Any]) -> int:
    """Parameters of a segmenter, running statistics among them."""
    width, classes, channels = (fields[n] for n in ("width", "num_classes", "head_channels"))
    auxiliary = fields.get("auxiliary_channels", AUXILIARY_CHANNELS)
    pooled = len(fields.get("pooled_parts", POOLED_PARTS))
    encoder = memory.count_beit({**fields, "vocab_size": 1}) - 4 * width - 1
    scales = 3 * (4 * width**2 + width) + 4 * width
    norms = 4 * channels * (pooled + 2 * SCALES)
    pyramid = pooled * width * channels + 9 * (width + pooled * channels) * channels
    sides = (SCALES - 1) * (width * channels + 9 * channels**2)
    head = norms + pyramid + sides + 9 * SCALES * channels**2 + (channels + 1) * classes
    side_head = 9 * width * auxiliary + 4 * auxiliary + (auxiliary + 1) * classes
    return encoder + scales + head + side_head


def values_at_once(fields: Mapping[str, Any], *, images: int, text: bool) -> tuple[int, int]:
    """As `memory.values_of_transformer`, with the finest scale and the logits at all pixels."""
    values, attention = memory.values_of_transformer(fields, images=images, text=False)
    places = 16 * (fields["image_size"] // fields["patch_size"]) ** 2
    pixels = fields["image_size"] ** 2 * fields["num_classes"]
    finest = places * (fields["width"] + SCALES * fields["head_channels"])
    return values + images * finest, max(attention, images * pixels)


def segmentation_flops(model: Mapping[str, Any], data: Mapping[str, Any]) -> int:
    """FLOPs of a training image: the encoder, the scales and both heads; convolutions, a
    multiplication and an addition as two.
    """
    width, classes, channels = (model[n] for n in ("width", "num_classes", "head_channels"))
    auxiliary = model.get("auxiliary_channels", AUXILIARY_CHANNELS)
    parts = model.get("pooled_parts", POOLED_PARTS)
    patches = (model["image_size"] // model["patch_size"]) ** 2
    areas = [16 * patches, 4 * patches, patches, patches // 4]
    encoder = flops.classification_flops({**model, "num_classes": 0}, data)
    scales = (4 + 16 + 4) * patches * width**2
    pyramid = sum(side**2 for side in parts) * width * channels
    pyramid += 9 * areas[3] * (width + len(parts) * channels) * channels
    sides = sum(areas[:3]) * (width * channels + 9 * channels**2)
    joined = areas[0] * (9 * SCALES * channels**2 + channels * classes)
    seen = areas[model.get("auxiliary_grid", AUXILIARY_GRID)]
    side_head = seen * (9 * width * auxiliary + auxiliary * classes)
    return encoder + 2 * (scales + pyramid + sides + joined + side_head)
