"""What the fields of `config.model` of a ViLBERT may be, and what follows from them: whether they
go together, parameters, memory and FLOPs.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vlmo_jax.commands.config_errors import multiple, require
from vlmo_jax.commands.fields import Choice, Extra, Flag, Kind, Number, Several, Text, Whole
from vlmo_jax.layers.regions import BOX
from vlmo_jax.layers.transformer import REMAT_POLICIES
from vlmo_jax.models.flops import PassFlops, block_flops
from vlmo_jax.models.sizes import DEEPEST, DTYPE, SIZE, MeshShape, check_vocabulary, count_block

Fields = Mapping[str, Any]

# What a model may have; each is one module.
HEADS = ("itm", "mlm", "region", "rank", "vqa", "nlvr2")
PRETRAIN_HEADS = ("itm", "mlm", "region")
NUM_ANSWERS = 3129

_BLOCKS = Several(Whole(), what="numbers of blocks in brackets with a comma behind each")

FIELDS: dict[str, Kind] = {
    "image_size": Whole(low=0, zero="regions of a detector"),
    "patch_size": Whole(low=0, zero="regions of a detector"),
    "num_regions": Whole(low=0, zero="patches stand in"),
    "region_width": Whole(low=0, zero="patches stand in"),
    "region_classes": Whole(low=0, zero="features are predicted"),
    "text_length": SIZE,
    "text_positions": SIZE,
    "vocab_size": SIZE,
    "width": SIZE,
    "depth": Whole(above=0, high=DEEPEST),
    "num_heads": SIZE,
    "mlp_dim": SIZE,
    "vision_width": SIZE,
    "vision_depth": Whole(above=0, high=DEEPEST),
    "vision_num_heads": SIZE,
    "vision_mlp_dim": SIZE,
    "co_width": SIZE,
    "co_num_heads": SIZE,
    "co_blocks": _BLOCKS,
    "vision_co_blocks": _BLOCKS,
    "fusion": Choice(("product", "sum")),
    "heads": Extra(
        Several(Text(), what="names in brackets with a comma behind each", distinct=True)
    ),
    "num_answers": Extra(SIZE),
    "num_tasks": Extra(Whole(low=0)),
    "task_row": Extra(Whole(low=0)),
    "dropout_rate": Number(low=0, below=1),
    "init_std": Number(above=0, high=100),
    "dtype": DTYPE,
    "remat": Choice(tuple(REMAT_POLICIES)),
    "scan_layers": Extra(Flag()),
}


class Sizes(NamedTuple):
    """Of a stream: what stands in its blocks, and how many tokens go through them."""

    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    tokens: int


class RegionSizes(NamedTuple):
    """Of what is seen.

    Attributes:
        number: R, most regions of an image.
        width: F of their features.
        targets: numbers that are predicted of a masked one.
    """

    number: int
    width: int
    targets: int


def region_sizes(fields: Fields) -> RegionSizes:
    """Sizes of the regions that a ViLBERT reads, of a detector's or of patches."""
    patch = fields["patch_size"]
    if patch:
        number, width = (fields["image_size"] // patch) ** 2, 3 * patch**2
    else:
        number, width = fields["num_regions"], fields["region_width"]
    return RegionSizes(number, width, fields["region_classes"] or width)


def _streams(fields: Fields) -> tuple[Sizes, Sizes]:
    """The text stream and the vision stream, whose first token is the whole image."""
    regions = region_sizes(fields).number
    return _stream(fields, "", fields["text_length"]), _stream(fields, "vision_", regions + 1)


def _stream(fields: Fields, prefix: str, tokens: int) -> Sizes:
    names = ("width", "depth", "num_heads", "mlp_dim")
    return Sizes(**{name: fields[prefix + name] for name in names}, tokens=tokens)


def check_sizes(fields: Fields, mesh_shape: MeshShape) -> None:
    """Refuses a ViLBERT that is impossible, or does not lie on the mesh.

    Args:
        fields: of `config.model`.
        mesh_shape: (data, fsdp, tensor).

    Raises:
        ConfigError: at the first impossible value.
    """
    _, fsdp, tensor = mesh_shape
    for stream in ("", "vision_", "co_"):
        width, count = f"{stream}width", f"{stream}num_heads"
        multiple(f"model.{width}", fields[width], fields[count], f"config.model.{count}")
        multiple(f"model.{count}", fields[count], tensor, "config.mesh.tensor")
    for stream in ("", "vision_"):
        multiple(f"model.{stream}width", fields[f"{stream}width"], fsdp, "config.mesh.fsdp")
        multiple(f"model.{stream}mlp_dim", fields[f"{stream}mlp_dim"], tensor, "config.mesh.tensor")
    check_vocabulary(fields, mesh_shape)
    heads = tuple(fields.get("heads", PRETRAIN_HEADS))
    require(
        bool(heads) and set(heads) <= set(HEADS),
        f"config.model.heads={heads} must be some of {', '.join(HEADS)}",
    )
    _check_co_blocks(fields)
    _check_regions(fields)
    _check_text(fields)


def _check_co_blocks(fields: Fields) -> None:
    """Refuses places of co-attention blocks that the streams do not have, or not in this order."""
    text, vision = tuple(fields["co_blocks"]), tuple(fields["vision_co_blocks"])
    require(
        len(text) == len(vision) > 0,
        f"config.model.co_blocks={text} and config.model.vision_co_blocks={vision} must be as many,"
        " at least one: the k-th co-attention block stands before a block of either stream",
    )
    for name, places, depth in (
        ("co_blocks", text, fields["depth"]),
        ("vision_co_blocks", vision, fields["vision_depth"]),
    ):
        stream = "depth" if name == "co_blocks" else "vision_depth"
        require(
            list(places) == sorted(places) and places[-1] <= depth,
            f"config.model.{name}={places} must rise from 0 to at most config.model.{stream}="
            f"{depth}",
        )


def _check_regions(fields: Fields) -> None:
    """Refuses a model that sees neither regions nor patches, or both."""
    of_patches, of_regions = (
        {name: fields[name] for name in names}
        for names in (("image_size", "patch_size"), ("num_regions", "region_width"))
    )
    patches, regions = all(of_patches.values()), all(of_regions.values())
    rest = of_regions if patches else of_patches
    require(
        patches != regions and not any(rest.values()),
        "config.model sees patches of images or a detector's regions: set image_size and patch_size"
        " with num_regions=0 and region_width=0, or the last two with the first two 0; they are"
        f" {', '.join(map(str, (*of_patches.values(), *of_regions.values())))}",
    )
    if patches:
        multiple(
            "model.image_size",
            fields["image_size"],
            fields["patch_size"],
            "config.model.patch_size",
        )


def _check_text(fields: Fields) -> None:
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
    row, rows = fields.get("task_row", 0), fields.get("num_tasks", 0)
    require(
        row < max(rows, 1),
        f"config.model.task_row={row} is none of the config.model.num_tasks={rows} rows; use 0 to"
        f" {max(rows, 1) - 1}",
    )


def count_params(fields: Fields) -> int:
    """Parameters of a ViLBERT."""
    text, vision = _streams(fields)
    co, vocab_size = fields["co_width"], fields["vocab_size"]
    heads, answers = fields.get("heads", PRETRAIN_HEADS), fields.get("num_answers", NUM_ANSWERS)
    regions = region_sizes(fields)
    rows = vocab_size + fields["text_positions"] + fields.get("num_tasks", 0) + 4
    embeddings = rows * text.width
    embeddings += (regions.width + BOX + 4) * vision.width
    blocks = sum(
        stream.depth * count_block(stream.width, stream.mlp_dim) for stream in (text, vision)
    )
    pair = sum(
        2 * co * mine.width
        + 2 * co * other.width
        + 3 * co
        + 3 * mine.width
        + _count_feed_forward(mine)
        for mine, other in ((text, vision), (vision, text))
    )
    parts = {
        "itm": 2 * co + 2,
        "mlm": text.width**2 + 3 * text.width + vocab_size,
        "region": vision.width**2 + 3 * vision.width + (vision.width + 1) * regions.targets,
        "rank": co + 1,
        "vqa": 2 * co**2 + 6 * co + (2 * co + 1) * answers,
        "nlvr2": 4 * co**2 + 10 * co + 2,
    }
    poolers = (text.width + vision.width + 2) * co
    co_blocks = len(fields["co_blocks"]) * pair
    return embeddings + blocks + co_blocks + poolers + sum(parts[head] for head in heads)


def _count_feed_forward(stream: Sizes) -> int:
    """Parameters of a feed-forward half and the norm behind it."""
    return 2 * stream.width * stream.mlp_dim + stream.mlp_dim + 3 * stream.width


def num_values(fields: Fields, *, images: int, text: bool) -> tuple[int, int]:
    """As `memory.values_of_transformer`: several images take a pass each with the text."""
    sizes, vision = _streams(fields)
    streams = [vision] * bool(images) + [sizes] * text
    passes, co_blocks = max(images, 1), len(fields["co_blocks"])
    inputs = sum((stream.depth + co_blocks) * stream.tokens * stream.width for stream in streams)
    attention = max((stream.num_heads * stream.tokens**2 for stream in streams), default=0)
    return passes * inputs, passes * attention


def pass_flops(fields: Fields) -> PassFlops:
    """FLOPs of a ViLBERT's passes, which has none of images or texts alone."""
    match, co = match_flops(fields), fields["co_width"]
    answer = match + 4 * co * (co + fields.get("num_answers", NUM_ANSWERS))
    compare = 2 * match + 4 * co * (2 * co + 2)
    return PassFlops(image=0, text=0, match=match, answer=answer, compare=compare)


def match_flops(fields: Fields) -> int:
    """FLOPs of a pair's way through both streams, padding included; see models/flops.py."""
    text, vision = _streams(fields)
    co = fields["co_width"]
    blocks = sum(
        stream.depth * block_flops(stream.tokens, stream.width, stream.mlp_dim)
        for stream in (text, vision)
    )
    pair = 0
    for mine, other in ((text, vision), (vision, text)):
        queries_and_output = 4 * mine.tokens * mine.width * co
        keys_and_values = 4 * other.tokens * other.width * co
        attention = 4 * mine.tokens * other.tokens * co
        feed_forward = 4 * mine.tokens * mine.width * mine.mlp_dim
        pair += queries_and_output + keys_and_values + attention + feed_forward
    embedding = 2 * vision.tokens * (region_sizes(fields).width + BOX) * vision.width
    return blocks + len(fields["co_blocks"]) * pair + embedding


def pretrain_flops(fields: Fields) -> int:
    """FLOPs of pre-training on a pair: both streams, and the heads at all tokens and regions, as
    the official code runs them.
    """
    text, vision = _streams(fields)
    words = 2 * text.tokens * text.width * (text.width + fields["vocab_size"])
    regions = 2 * vision.tokens * vision.width * (vision.width + region_sizes(fields).targets)
    return match_flops(fields) + words + regions
