"""VSE-infinity: regions or a grid, and words, each pooled by learned weights to one vector.

Source: Chen et al., "Learning the Best Pooling Strategy for Visual Semantic Embedding", CVPR 2021,
and its code, woodfrog/vse_infty.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.commands.config_errors import multiple, require
from vlmo_jax.commands.fields import Choice, Extra, Flag, Kind, Number, Several, Text, Whole
from vlmo_jax.layers.bert import Bert
from vlmo_jax.layers.blocks import PreNormBlock, Stack
from vlmo_jax.layers.embeddings import ImageEmbedding
from vlmo_jax.layers.generalized_pooling import POOLINGS
from vlmo_jax.layers.heads import Classifier
from vlmo_jax.layers.linear import INIT_STD, LayerNorm
from vlmo_jax.layers.region_encoder import RegionEncoder
from vlmo_jax.layers.regions import Regions
from vlmo_jax.layers.transformer import REMAT_POLICIES
from vlmo_jax.models.sizes import DEEPEST, DTYPE, SIZE, MeshShape, check_vocabulary, count_block

HEADS = ("retrieval", "vqa")
_DEPTH = Whole(above=0, high=DEEPEST)

# What the fields of `config.model` may be.
FIELDS: dict[str, Kind] = {
    "embed_width": SIZE,
    "pooling": Choice(tuple(POOLINGS)),
    "width": SIZE,
    "depth": _DEPTH,
    "num_heads": SIZE,
    "mlp_dim": SIZE,
    "vocab_size": SIZE,
    "text_length": SIZE,
    "text_positions": SIZE,
    "dropout_rate": Number(low=0, below=1),
    "num_regions": Whole(low=0, zero="images"),
    "region_width": Extra(Whole(low=0)),
    "region_mlp": Extra(Whole(low=0, zero="none")),
    "image_size": Extra(SIZE),
    "patch_size": Extra(SIZE),
    "image_width": Extra(SIZE),
    "image_depth": Extra(_DEPTH),
    "image_heads": Extra(SIZE),
    "image_mlp_dim": Extra(SIZE),
    "heads": Extra(Several(Text(), what="names in brackets with a comma behind each")),
    "num_answers": Extra(SIZE),
    "init_std": Number(above=0, high=100),
    "dtype": DTYPE,
    "remat": Choice(tuple(REMAT_POLICIES)),
    "scan_layers": Extra(Flag()),
}
# Those that say what the images go through, where it sees images.
IMAGE_FIELDS = (
    "image_size",
    "patch_size",
    "image_width",
    "image_depth",
    "image_heads",
    "image_mlp_dim",
)


class GridTower(nnx.Module):
    """A ViT whose patches are the places of a grid; the class token helps them and is not given.

    Args:
        image_size, patch_size: pixels a side.
        width, depth, num_heads, mlp_dim: of the blocks.
        layers: `dtype` and `init_std`.
        stack: `remat` and `scan_layers`.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        *,
        layers: Mapping[str, Any],
        stack: Mapping[str, Any],
        rngs: nnx.Rngs,
    ) -> None:
        self.embedding = ImageEmbedding(
            image_size, patch_size, width, positions=True, rngs=rngs, **layers
        )
        make = lambda rngs: PreNormBlock(width, num_heads, mlp_dim, rngs=rngs, **layers)
        self.blocks = Stack(depth, make, rngs=rngs, **stack)
        self.norm = LayerNorm(width, epsilon=1e-6, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """[B, S, S, 3] -> [B, P, D]."""
        return self.norm(self.blocks(self.embedding(image)))[:, 1:]


class PooledTowers(nnx.Module):
    """What makes vectors of states: an encoder of images and one of texts.

    Args:
        image, text: arguments of each, beside those that both share.
        shared: `out_features`, `pooling`, `dtype` and `init_std`.
    """

    def __init__(
        self,
        image: Mapping[str, Any],
        text: Mapping[str, Any],
        shared: Mapping[str, Any],
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.image = RegionEncoder(**image, **shared, rngs=rngs)
        self.text = RegionEncoder(**text, **shared, rngs=rngs)


class VSEInfinity(nnx.Module):
    """Two towers that pool what they see.

    Args:
        embed_width: E, of the vectors.
        pooling: a name in POOLINGS, of both towers.
        width, depth, num_heads, mlp_dim, vocab_size, text_positions, dropout_rate: of BERT.
        text_length: longest text of a batch, for those that make batches.
        num_regions: R, places for regions in a batch; 0: the model sees images, through a ViT whose
            patches stand for the grid of the original's convolutional network.
        region_width: F, of the regions.
        region_mlp: inner width of the MLP beside the Dense layer over regions; 0: none.
        image_size, patch_size, image_width, image_depth, image_heads, image_mlp_dim: of the ViT,
            where there are no regions.
        heads: out of HEADS; "vqa" answers from the vectors of both towers.
        num_answers: A, that it chooses from.
        dtype, init_std, remat, scan_layers: as of VLMo.
    """

    def __init__(
        self,
        *,
        embed_width: int,
        pooling: str = "gpo",
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        vocab_size: int,
        text_length: int,
        text_positions: int,
        dropout_rate: float = 0.0,
        num_regions: int = 0,
        region_width: int = 0,
        region_mlp: int = 0,
        image_size: int = 0,
        patch_size: int = 0,
        image_width: int = 0,
        image_depth: int = 0,
        image_heads: int = 0,
        image_mlp_dim: int = 0,
        heads: Sequence[str] = ("retrieval",),
        num_answers: int = 3129,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        remat: str = "none",
        scan_layers: bool = True,
        rngs: nnx.Rngs,
    ) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std)
        stack: dict[str, Any] = dict(remat=remat, scan_layers=scan_layers)
        self.grid = (
            None
            if num_regions
            else GridTower(
                image_size,
                patch_size,
                image_width,
                image_depth,
                image_heads,
                image_mlp_dim,
                layers=layers,
                stack=stack,
                rngs=rngs,
            )
        )
        self.bert = Bert(
            vocab_size=vocab_size,
            width=width,
            depth=depth,
            num_heads=num_heads,
            mlp_dim=mlp_dim,
            positions=text_positions,
            dropout_rate=dropout_rate,
            rngs=rngs,
            **layers,
            **stack,
        )
        seen = dict(in_features=region_width if num_regions else image_width, mlp_hidden=region_mlp)
        shared = dict(out_features=embed_width, pooling=pooling, **layers)
        self.itc = PooledTowers(seen, dict(in_features=width), shared, rngs=rngs)
        self.vqa_head = (
            Classifier(2 * embed_width, 2 * embed_width, num_answers, rngs=rngs, **layers)
            if "vqa" in heads
            else None
        )

    def retrieval_image(self, image: jax.Array | Regions) -> jax.Array:
        """Images [B, S, S, 3] or Regions -> [B, E] float32 of length 1, by running statistics."""
        return self.itc.image(*self._places(image))

    def retrieval_text(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """[B, T] -> [B, E] float32 of length 1; `key` turns dropout on."""
        return self.itc.text(self.bert(token_ids, token_mask, key=key), token_mask)

    def learn_image(
        self, image: jax.Array | Regions, *, dropped: float = 0.0, key: jax.Array | None = None
    ) -> jax.Array:
        """As `retrieval_image`, in training: by the statistics of the batch itself.

        Args:
            image: images or Regions.
            dropped: share of the places of a grid, or of the regions, that are left out, each on
                its own, but not all of an image.
            key: of the draw; None: none are.
        """
        x, mask = self._places(image)
        if key is not None and dropped:
            kept = mask & jax.random.bernoulli(key, 1 - dropped, mask.shape)
            mask = jnp.where(kept.any(axis=1, keepdims=True), kept, mask)
        return self.itc.image(x, mask, by_batch=True)

    def moved_statistics(self, image: jax.Array | Regions) -> dict[str, Any]:
        """The running statistics after a batch: a tree of that part of the parameters; {} for a
        model without BatchNorm.
        """
        if self.itc.image.mlp is None:
            return {}
        moved = self.itc.image.moved_statistics(self._places(image)[0])
        return {"itc": {"image": {"mlp": {"norm": moved}}}}

    def answer(
        self,
        image: jax.Array | Regions,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Images or Regions, and [B, T] -> logits of the answers [B, A] float32."""
        assert self.vqa_head is not None, "this model was made without the head vqa"
        vectors = self.retrieval_image(image), self.retrieval_text(token_ids, token_mask, key)
        return self.vqa_head(jnp.concatenate(vectors, axis=-1))

    def _places(self, image: jax.Array | Regions) -> tuple[jax.Array, jax.Array]:
        """What is pooled of an image [B, R, F], and which of it is there [B, R] bool."""
        if isinstance(image, Regions):
            return image.features, image.mask
        assert self.grid is not None, "this model is made for regions"
        x = self.grid(image)
        return x, jnp.ones(x.shape[:2], bool)


def check_sizes(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a model that is impossible, or does not lie on the mesh.

    Args:
        fields: of `config.model`.
        mesh_shape: (data, fsdp, tensor).

    Raises:
        ConfigError: at the first impossible value.
    """
    _, fsdp, tensor = mesh_shape
    towers = [("width", "num_heads", "mlp_dim")]
    if fields["num_regions"]:
        width = fields.get("region_width", 0)
        require(
            width >= 1,
            f"config.model.region_width={width} with config.model.num_regions="
            f"{fields['num_regions']}; set it to that of the features, such as 2048",
        )
        multiple("model.region_width", width, fsdp, "config.mesh.fsdp")
    else:
        missing = [name for name in IMAGE_FIELDS if not fields.get(name)]
        require(
            not missing,
            "config.model.num_regions=0 is a model that sees images, which needs"
            f" {', '.join(f'config.model.{name}' for name in missing)}; set them, or num_regions",
        )
        multiple(
            "model.image_size",
            fields["image_size"],
            fields["patch_size"],
            "config.model.patch_size",
        )
        towers.append(("image_width", "image_heads", "image_mlp_dim"))
    for width, heads, mlp_dim in towers:
        multiple(f"model.{width}", fields[width], fields[heads], f"config.model.{heads}")
        multiple(f"model.{heads}", fields[heads], tensor, "config.mesh.tensor")
        multiple(f"model.{mlp_dim}", fields[mlp_dim], tensor, "config.mesh.tensor")
        multiple(f"model.{width}", fields[width], fsdp, "config.mesh.fsdp")
    multiple("model.embed_width", fields["embed_width"], fsdp, "config.mesh.fsdp")
    multiple("model.region_mlp", fields.get("region_mlp", 0), fsdp, "config.mesh.fsdp")
    check_vocabulary(fields, mesh_shape)
    length, positions = fields["text_length"], fields["text_positions"]
    require(
        3 <= length <= positions,
        f"config.model.text_length={length} must be 3 to config.model.text_positions={positions};"
        " raise text_positions or shorten the texts",
    )
    unknown = [head for head in fields.get("heads", ()) if head not in HEADS]
    require(
        not unknown,
        f"config.model.heads: {', '.join(map(repr, unknown))} unknown; use some of"
        f" {', '.join(HEADS)}",
    )


def count_params(fields: Mapping[str, Any]) -> int:
    """Parameters of such a model."""
    embed = fields["embed_width"]
    text = fields["depth"] * count_block(fields["width"], fields["mlp_dim"])
    text += (fields["vocab_size"] + fields["text_positions"] + 4) * fields["width"]
    text += (fields["width"] + 1) * embed
    if fields["num_regions"]:
        seen, image = fields["region_width"], 0
    else:
        seen = fields["image_width"]
        image = fields["image_depth"] * count_block(seen, fields["image_mlp_dim"])
        patch, grid = fields["patch_size"], fields["image_size"] // fields["patch_size"]
        image += (3 * patch**2 + 1 + 1 + grid**2 + 1 + 2) * seen
    image += (seen + 1) * embed
    if hidden := fields.get("region_mlp", 0):
        image += (seen + 1 + 4) * hidden + (hidden + 1) * embed
    pooling = 2 * (2 * (32 + 32 + 2) * 3 * 32 + 32) if fields["pooling"] == "gpo" else 0
    head = 0
    if "vqa" in fields.get("heads", ()):
        head = 4 * embed**2 + 6 * embed + (2 * embed + 1) * fields.get("num_answers", 3129)
    return text + image + pooling + head


def values_at_once(fields: Mapping[str, Any], *, images: int, text: bool) -> tuple[int, int]:
    """As `memory.values_of_transformer`: inputs of blocks, and the attention of one block."""
    values, attention = 0, 0
    if text:
        tokens = fields["text_length"]
        values += fields["depth"] * tokens * fields["width"]
        attention = fields["num_heads"] * tokens**2
    if images and not fields["num_regions"]:
        tokens = (fields["image_size"] // fields["patch_size"]) ** 2 + 1
        values += images * fields["image_depth"] * tokens * fields["image_width"]
        attention = max(attention, fields["image_heads"] * tokens**2)
    return values, attention
