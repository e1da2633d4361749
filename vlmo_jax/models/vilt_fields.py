"""What the fields of `config.model` of a ViLT may be, what its heads are built from, and what it
takes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vlmo_jax.commands.config_errors import ConfigError, multiple, require
from vlmo_jax.commands.fields import Choice, Extra, Flag, Kind, Number, Several, Text, Whole
from vlmo_jax.layers.transformer import REMAT_POLICIES
from vlmo_jax.models.flops import PassFlops, block_flops
from vlmo_jax.models.sizes import DEEPEST, DTYPE, SIZE, MeshShape, check_vocabulary, count_block

# What each head is built from; a model has the modules of its heads and no others.
HEADS = {
    "mlm": ("mlm_head",),
    "itm": ("pooler", "itm_head"),
    "rank": ("pooler", "rank_head"),
    "vqa": ("pooler", "vqa_head"),
    "nlvr2": ("pooler", "nlvr2_head"),
}
PRETRAIN_HEADS = ("itm", "mlm")

# What the fields of `config.model` may be.
FIELDS: dict[str, Kind] = {
    "image_size": SIZE,
    "longest_side": SIZE,
    "patch_size": SIZE,
    "sampled_patches": Whole(low=0, zero="all"),
    "vocab_size": SIZE,
    "text_length": SIZE,
    "width": SIZE,
    "depth": Whole(above=0, high=DEEPEST),
    "num_heads": SIZE,
    "mlp_dim": SIZE,
    "dropout_rate": Number(low=0, below=1),
    "heads": Extra(Several(Text(), what="names in brackets with a comma each", distinct=True)),
    "num_answers": Extra(SIZE),
    "init_std": Number(above=0, high=100),
    "dtype": DTYPE,
    "remat": Choice(tuple(REMAT_POLICIES)),
    "scan_layers": Extra(Flag()),
}


def most_patches(image_size: int, longest_side: int, patch_size: int) -> int:
    """As many patches as any image has, whose sides are at most these."""
    return (image_size // patch_size) * (max(image_size, longest_side) // patch_size)


def check_heads(heads: Sequence[str]) -> None:
    """Raises ValueError unless ViLT can be built with these heads."""
    unknown = [head for head in heads if head not in HEADS]
    if unknown:
        raise ValueError(
            f"heads={tuple(heads)}: {', '.join(map(repr, unknown))} unknown; use some of"
            f" {', '.join(HEADS)}"
        )


def check_sizes(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a ViLT that is impossible, or does not lie on the mesh.

    Args:
        fields: of `config.model`.
        mesh_shape: (data, fsdp, tensor).

    Raises:
        ConfigError: at the first impossible value.
    """
    patch, longest = fields["patch_size"], fields["longest_side"]
    multiple("model.image_size", fields["image_size"], patch, "config.model.patch_size")
    require(
        longest >= fields["image_size"],
        f"config.model.longest_side={longest} is less than config.model.image_size="
        f"{fields['image_size']}, the most that the shorter side has; use at least as much",
    )
    multiple("model.width", fields["width"], fields["num_heads"], "config.model.num_heads")
    try:
        check_heads(fields.get("heads", PRETRAIN_HEADS))
    except ValueError as error:
        raise ConfigError(f"config.model.{error}") from error
    _, fsdp, tensor = mesh_shape
    multiple("model.num_heads", fields["num_heads"], tensor, "config.mesh.tensor")
    multiple("model.mlp_dim", fields["mlp_dim"], tensor, "config.mesh.tensor")
    multiple("model.width", fields["width"], fsdp, "config.mesh.fsdp")
    check_vocabulary(fields, mesh_shape)
    require(
        fields["text_length"] >= 3,
        f"config.model.text_length={fields['text_length']} has no room for [CLS], a token and"
        " [SEP]; use at least 3",
    )


def count_params(fields: Mapping[str, Any]) -> int:
    """Parameters of a ViLT, from the fields of `config.model` alone."""
    width, mlp_dim, vocab_size = fields["width"], fields["mlp_dim"], fields["vocab_size"]
    heads = fields.get("heads", PRETRAIN_HEADS)
    grid = fields["image_size"] // fields["patch_size"]
    text = (vocab_size + fields["text_length"] + 4) * width
    image = (3 * fields["patch_size"] ** 2 + 2 + grid**2 + 1) * width
    types = (3 if "nlvr2" in heads else 2) * width
    classifier = lambda inputs, classes: (
        2 * width * (inputs + 1) + 4 * width + (2 * width + 1) * classes
    )
    parts = {
        "pooler": width**2 + width,
        "itm_head": 2 * width + 2,
        "rank_head": width + 1,
        "mlm_head": width**2 + 3 * width + (width + 1) * vocab_size,
        "vqa_head": classifier(width, fields.get("num_answers", 3129)),
        "nlvr2_head": classifier(2 * width, 2),
    }
    built = {part for head in heads for part in HEADS[head]}
    blocks = fields["depth"] * count_block(width, mlp_dim) + 2 * width
    return text + image + types + blocks + sum(parts[part] for part in built)


def num_values(fields: Mapping[str, Any], *, images: int, text: bool) -> tuple[int, int]:
    """Values that an example needs at once, as `models.memory.values_of_transformer`."""
    sides = (fields[name] for name in ("image_size", "longest_side", "patch_size"))
    tokens = bool(images) * (most_patches(*sides) + 1) + text * fields["text_length"]
    passes = max(images, 1)
    return (
        passes * fields["depth"] * tokens * fields["width"],
        passes * fields["num_heads"] * tokens**2,
    )


def pass_flops(fields: Mapping[str, Any]) -> PassFlops:
    """FLOPs of a pair's way through a ViLT, padding included, see models/flops.py: blocks over the
    text, the class token and as many patches as there is room for, which are embedded. Heads read
    one token.
    """
    width, match = fields["width"], _match_flops(fields)
    head = lambda vectors, classes: 4 * vectors * width**2 + 4 * width * classes
    return PassFlops(
        image=0,
        text=0,
        match=match,
        answer=match + head(1, fields.get("num_answers", 1)),
        compare=2 * match + head(2, 2),
    )


def pretrain_flops(fields: Mapping[str, Any], iterations: int = 50) -> int:
    """FLOPs of a pair's pre-training: two passes, the MLM head at all tokens, and the alignment
    with its costs and two products an iteration.
    """
    width, length = fields["width"], fields["text_length"]
    words = length * (2 * width**2 + 2 * width * fields["vocab_size"])
    pairs = length * (_num_patches(fields) + 1)
    return 2 * _match_flops(fields) + words + pairs * (2 * width + 4 * iterations)


def _match_flops(fields: Mapping[str, Any]) -> int:
    width, patches = fields["width"], _num_patches(fields)
    tokens = fields["text_length"] + 1 + patches
    embedding = 2 * patches * 3 * fields["patch_size"] ** 2 * width
    return fields["depth"] * block_flops(tokens, width, fields["mlp_dim"]) + embedding


def _num_patches(fields: Mapping[str, Any]) -> int:
    """Patches of an image that there is room for in training."""
    most = most_patches(*(fields[name] for name in ("image_size", "longest_side", "patch_size")))
    return min(fields.get("sampled_patches", 0) or most, most)
