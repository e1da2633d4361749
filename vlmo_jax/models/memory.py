"""The memory that a model takes at least, from the fields of `config.model` alone: known before
anything is traced, which impossible sizes would not survive.

`Sizes` are numbers, not bytes: parameters, and values that an example needs at once on its way
through the model. Of the latter not all are counted, so that nothing is refused that fits.
"""

from collections.abc import Mapping
from typing import Any

from vlmo_jax.layers.relative_position import num_image_rows, num_rows
from vlmo_jax.models.dual_vlmo import PASSES
from vlmo_jax.models.vlmo_fields import HEADS, PRETRAIN_HEADS

Fields = Mapping[str, Any]


def count_vlmo(fields: Fields) -> int:
    """Parameters of a VLMo."""
    width, vocab_size = fields["width"], fields["vocab_size"]
    absolute = fields["position"] == "absolute"
    experts, heads = len(fields.get("experts", (1, 2, 3))), fields.get("heads", PRETRAIN_HEADS)
    rows = 0 if absolute else num_rows(_grid(fields), fields["text_positions"])
    text = (vocab_size + 4 + absolute * fields["text_length"]) * width
    types = (3 if "nlvr2" in heads else 2) * width
    parts = {
        "itc": 2 * width**2 + 1,
        "itc_vl": 2 * width**2 + 1,
        "pooler": width**2 + width,
        "itm_head": 2 * width + 2,
        "mlm_head": width**2 + 3 * width + (width + 1) * vocab_size,
        "vqa_head": 2 * width**2 + 6 * width + (2 * width + 1) * fields.get("num_answers", 3129),
        "nlvr2_head": 4 * width**2 + 10 * width + 2,
    }
    built = {part for head in heads for part in HEADS[head]}
    blocks = _count_transformer(fields, 2, experts, fields["depth"] * rows)
    return text + types + _count_image(fields) + blocks + sum(parts[part] for part in built)


def count_dual_vlmo(fields: Fields) -> int:
    """Parameters of a dual encoder with heads on the vectors of PASSES."""
    width, heads = fields["width"], fields["heads"]
    classes = {"vqa": fields.get("num_answers", 3129), "nlvr2": 2}
    others = tuple(head for head in heads if head not in PASSES)
    return count_vlmo({**fields, "heads": others}) + sum(
        2 * passes * width**2 + 6 * width + (2 * width + 1) * classes[head]
        for head, passes in PASSES.items()
        if head in heads
    )


def count_beit(fields: Fields) -> int:
    """Parameters of a BEiT."""
    width, vocab_size = fields["width"], fields["vocab_size"]
    rows = num_image_rows(_grid(fields)) if fields["position"] == "relative" else 0
    tables = 1 if fields.get("shared_table", False) else fields["depth"]
    blocks = _count_transformer(fields, 1, 1, tables * rows)
    return _count_image(fields) + width + blocks + (width + 1) * vocab_size


def count_image_classifier(fields: Fields) -> int:
    """Parameters of a classifier; its norm stands in the place of a BEiT's last one."""
    width, classes = fields["width"], fields["num_classes"]
    beit = count_beit({**fields, "vocab_size": 1})
    return beit - width - (width + 1) + (width + 1) * classes


def count_discrete_vae(fields: Fields) -> int:
    """Parameters of a discrete VAE."""
    hidden, groups, blocks = (
        fields[name] for name in ("num_hidden", "num_groups", "blocks_per_group")
    )
    vocab_size, num_init = fields["vocab_size"], fields["num_init"] or hidden // 2
    widths = [hidden * 2**group for group in range(groups)]
    total = _conv(3, hidden, 7) + _conv(widths[-1], vocab_size, 1)
    total += _conv(vocab_size, num_init, 1) + _conv(hidden, 6, 1)
    for start, order, outer in ((hidden, widths, (3, 1)), (num_init, widths[::-1], (1, 3))):
        below = start
        for width in order:
            first = _count_block(below, width, *outer)
            total += first + (blocks - 1) * _count_block(width, width, *outer)
            below = width
    return total


def values_of_transformer(fields: Fields, *, images: int, text: bool) -> tuple[int, int]:
    """What an example with these parts needs at least: values in the compute type, which are the
    inputs of all blocks, kept for the gradient; and float32 ones, the attention of one block.

    Several images take a pass each, side by side, with the text.
    """
    tokens = bool(images) * (_grid(fields) ** 2 + 1) + text * fields.get("text_length", 0)
    passes = max(images, 1)
    return (
        passes * fields["depth"] * tokens * fields["width"],
        passes * fields["num_heads"] * tokens**2,
    )


def values_of_dual_vlmo(fields: Fields, *, images: int, text: bool) -> tuple[int, int]:
    """As `values_of_transformer`, of passes of their own for images and text, one by one."""
    image = values_of_transformer(fields, images=1, text=False)
    passes = [image] * images + [values_of_transformer(fields, images=0, text=True)] * text
    return sum(values for values, _ in passes), max((a for _, a in passes), default=0)


def values_of_discrete_vae(fields: Fields, *, images: int, text: bool) -> tuple[int, int]:
    """As `values_of_transformer`: both ends of the model at full size, and the logits of codes."""
    side = fields["image_size"]
    codes = (side >> (fields["num_groups"] - 1)) ** 2
    return 2 * side**2 * fields["num_hidden"], codes * fields["vocab_size"]


def _grid(fields: Fields) -> int:
    return fields["image_size"] // fields["patch_size"]


def _count_image(fields: Fields) -> int:
    """Parameters of an ImageEmbedding."""
    tokens = _grid(fields) ** 2 + 1
    positions = tokens if fields["position"] == "absolute" else 0
    return (3 * fields["patch_size"] ** 2 + 2 + positions) * fields["width"]


def _count_transformer(fields: Fields, lower: int, upper: int, table_rows: int) -> int:
    """Parameters of a MomeTransformer with so many experts in its blocks."""
    width, mlp_dim, depth, num_upper = (
        fields[name] for name in ("width", "mlp_dim", "depth", "num_upper")
    )
    block = 4 * width**2 + 5 * width + (2 * width if fields["layer_scale"] else 0)
    expert = 2 * width * mlp_dim + mlp_dim + 3 * width
    experts = (depth - num_upper) * lower + num_upper * upper
    return depth * block + experts * expert + table_rows * fields["num_heads"] + 2 * width


def _conv(in_features: int, out_features: int, size: int) -> int:
    return (in_features * size**2 + 1) * out_features


def _count_block(in_features: int, width: int, first: int, last: int) -> int:
    """Parameters of a block of a discrete VAE, by the sizes of its outer kernels."""
    hidden = width // 4
    path = _conv(in_features, width, 1) if in_features != width else 0
    inner = 2 * _conv(hidden, hidden, 3)
    return path + _conv(in_features, hidden, first) + inner + _conv(hidden, width, last)
