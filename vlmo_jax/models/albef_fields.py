"""What the fields of `config.model` of an ALBEF may be, what its heads are built from, and what it
costs.
"""

from collections.abc import Mapping
from typing import Any

from vlmo_jax.commands.config_errors import multiple, require
from vlmo_jax.commands.fields import Choice, Extra, Flag, Kind, Number, Several, Text, Whole
from vlmo_jax.layers.transformer import REMAT_POLICIES
from vlmo_jax.models.flops import PassFlops, block_flops
from vlmo_jax.models.sizes import DEEPEST, DTYPE, SIZE, MeshShape, check_vocabulary, count_block

# The module of each head.
HEADS = {
    "itc": "itc",
    "itm": "itm_head",
    "mlm": "mlm_head",
    "retrieval": "itc",
    "vqa": "vqa_head",
}
PRETRAIN_HEADS = ("itc", "itm", "mlm")
TEMPERATURES = (0.001, 0.5)  # the least and the most

_DEPTH = Whole(above=0, high=DEEPEST)
# What the fields of `config.model` may be.
FIELDS: dict[str, Kind] = {
    "image_size": SIZE,
    "patch_size": SIZE,
    "vision_width": SIZE,
    "vision_depth": _DEPTH,
    "vision_num_heads": SIZE,
    "vision_mlp_dim": SIZE,
    "text_length": SIZE,
    "text_positions": SIZE,
    "vocab_size": SIZE,
    "width": SIZE,
    "num_heads": SIZE,
    "mlp_dim": SIZE,
    "depth": _DEPTH,
    "fusion_depth": _DEPTH,
    "embed_dim": SIZE,
    "dropout_rate": Number(low=0, below=1),
    "heads": Extra(Several(Text(), what="names in brackets with a comma", distinct=True)),
    "num_answers": Extra(SIZE),
    "init_std": Number(above=0, high=100),
    "dtype": DTYPE,
    "remat": Choice(tuple(REMAT_POLICIES)),
    "scan_layers": Extra(Flag()),
}

Fields = Mapping[str, Any]


def check_sizes(fields: Fields, mesh_shape: MeshShape) -> None:
    """Refuses an ALBEF that is impossible, or does not lie on the mesh.

    Args:
        fields: of `config.model`.
        mesh_shape: (data, fsdp, tensor).

    Raises:
        ConfigError: at the first impossible value.
    """
    multiple(
        "model.image_size", fields["image_size"], fields["patch_size"], "config.model.patch_size"
    )
    _, fsdp, tensor = mesh_shape
    for tower in ("vision_", ""):
        width, count, mlp_dim = (f"{tower}{name}" for name in ("width", "num_heads", "mlp_dim"))
        multiple(f"model.{width}", fields[width], fields[count], f"config.model.{count}")
        multiple(f"model.{count}", fields[count], tensor, "config.mesh.tensor")
        multiple(f"model.{mlp_dim}", fields[mlp_dim], tensor, "config.mesh.tensor")
        multiple(f"model.{width}", fields[width], fsdp, "config.mesh.fsdp")
    check_vocabulary(fields, mesh_shape)
    heads = tuple(fields.get("heads", PRETRAIN_HEADS))
    require(
        bool(heads) and set(heads) <= set(HEADS),
        f"config.model.heads={heads} must be some of {', '.join(HEADS)}",
    )
    length, positions = fields["text_length"], fields["text_positions"]
    require(
        length >= 3,
        f"config.model.text_length={length} has no room for [CLS], a token and [SEP];"
        " use at least 3",
    )
    require(
        length <= positions,
        f"config.model.text_length={length} is more than config.model.text_positions={positions};"
        " raise text_positions or shorten the texts",
    )


def count_params(fields: Fields) -> int:
    """Parameters of an ALBEF."""
    vision_width, width, embed_dim = (
        fields[name] for name in ("vision_width", "width", "embed_dim")
    )
    vocab_size, answers = fields["vocab_size"], fields.get("num_answers", 3129)
    image = (_image_tokens(fields) + 3 * fields["patch_size"] ** 2 + 4) * vision_width
    vision = fields["vision_depth"] * count_block(vision_width, fields["vision_mlp_dim"])
    embedding = (vocab_size + fields["text_positions"] + 4) * width
    cross = 2 * width**2 + 2 * vision_width * width + 6 * width
    text = (fields["depth"] + fields["fusion_depth"]) * count_block(width, fields["mlp_dim"])
    parts = {
        "itc": (vision_width + width + 2) * embed_dim + 1,
        "itm_head": 2 * width + 2,
        "mlm_head": width**2 + 3 * width + vocab_size,
        "vqa_head": 2 * width**2 + 6 * width + (2 * width + 1) * answers,
    }
    built = {HEADS[head] for head in fields.get("heads", PRETRAIN_HEADS)}
    towers = image + vision + embedding + text + fields["fusion_depth"] * cross
    return towers + sum(parts[part] for part in built)


def _image_tokens(fields: Fields) -> int:
    return (fields["image_size"] // fields["patch_size"]) ** 2 + 1


def num_values(fields: Fields, *, images: int, text: bool) -> tuple[int, int]:
    """What an example needs at least; see `memory.values_of_transformer`."""
    tokens, length = _image_tokens(fields), fields["text_length"]
    values = images * fields["vision_depth"] * tokens * fields["vision_width"]
    attention = bool(images) * fields["vision_num_heads"] * tokens**2
    if text:
        layers = fields["depth"] + bool(images) * fields["fusion_depth"]
        values += layers * length * fields["width"]
        attention = max(attention, fields["num_heads"] * length**2)
    return values, attention


class Costs:
    """FLOPs of parts of an ALBEF, padding included; projections and heads of one token are left
    out, as in flops.py.

    Args:
        fields: of `config.model`.

    Attributes:
        image: one image through the ViT.
        text: one text through the layers that read it alone.
        fusion: one text through the layers that read an image too.
        words: the prediction head at so many tokens as a text has.
    """

    def __init__(self, fields: Fields) -> None:
        tokens, length = _image_tokens(fields), fields["text_length"]
        vision_width, width = fields["vision_width"], fields["width"]
        patches = 2 * (tokens - 1) * 3 * fields["patch_size"] ** 2 * vision_width
        block = block_flops(length, width, fields["mlp_dim"])
        # Queries and output of the text, keys and values of the image, logits and weighted sum.
        cross = 4 * length * width**2 + 4 * tokens * vision_width * width
        cross += 4 * length * tokens * width
        self.image = patches + fields["vision_depth"] * block_flops(
            tokens, vision_width, fields["vision_mlp_dim"]
        )
        self.text = fields["depth"] * block
        self.fusion = fields["fusion_depth"] * (block + cross)
        self.words = length * (2 * width**2 + 2 * width * fields["vocab_size"])


def pass_flops(fields: Fields) -> PassFlops:
    """FLOPs of passes through an ALBEF."""
    costs, width = Costs(fields), fields["width"]
    match = costs.image + costs.text + costs.fusion
    head = 2 * 2 * width * (width + fields.get("num_answers", 3129))
    return PassFlops(image=costs.image, text=costs.text, match=match, answer=match + head)


def pretrain_flops(fields: Fields) -> int:
    """FLOPs of pre-training on a pair, as many as of forward passes that a backward pass follows.

    Trained are the ViT once, the text alone and, masked, once more, fusion four times (the pair,
    two negatives, the masked text) and the prediction head. The momentum towers take the same but
    for the three fusions that match, and no backward pass follows: a third counts.

    Source: the official code, which encodes an image once and reads its states four times.
    """
    costs = Costs(fields)
    towers = costs.image + 2 * costs.text + costs.fusion + costs.words
    return towers + 3 * costs.fusion + round(towers / 3)
