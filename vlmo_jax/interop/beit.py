"""Names and layouts of BEiT checkpoints, both ways: those of the official code (unilm) and of
HuggingFace.

The table of places is in the official names; HuggingFace's are translated to them first.
Masked-image models have everything; classifiers that were fine-tuned from them lack some parts and
bring `head` and `fc_norm`, which are kept aside with the index buffers, so that the way back is
whole.
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vlmo_jax.interop.huggingface_beit import (
    TABLE,
    from_huggingface,
    huggingface_names,
    is_huggingface,
    to_huggingface,
)
from vlmo_jax.interop.places import (
    ROW,
    ROWS,
    SAME,
    Place,
    attention_places,
    check_depth,
    check_ranks,
    check_upper,
    dense_places,
    empty_places,
    expert_places,
    fill_places,
    named,
    norm_places,
    patch_layout,
    wrong_shapes,
)
from vlmo_jax.layers.relative_position import image_index, num_image_rows
from vlmo_jax.models.build import abstract_params, model_maker

PATCH, POSITIONS, FIRST = "patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight"
HEAD = "lm_head.weight"
SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
FIRST_TABLE = f"blocks.0.{TABLE}"
# Kept aside: buffers that the rest tells, and the heads of classifiers.
ASIDE = r"(blocks\.\d+\.attn|rel_pos_bias)\.relative_position_index|(head|fc_norm)\.(weight|bias)"
# What a classifier may lack.
ONLY_MASKED_IMAGES = {"mask_token", "norm.weight"}
# Width of an attention head in every published BEiT, for checkpoints without a position table to
# count heads by.
HEAD_WIDTH = 64
LAYER_SCALE = 0.1  # initial gamma of the published models, which their files do not tell


class BeitSizes(NamedTuple):
    """What the shapes of a checkpoint tell; see models.beit.BEiT.

    `vocab_size` is None without a head for visual tokens, as in classifiers, which may also lack
    the mask token and the final norm.
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    num_upper: int
    num_heads: int
    mlp_dim: int
    position: str
    shared_table: bool
    layer_scale: bool
    vocab_size: int | None
    mask_token: bool
    final_norm: bool

    def model_fields(self) -> dict[str, Any]:
        """Arguments of BEiT."""
        fields = self._asdict()
        del fields["mask_token"], fields["final_norm"]
        return {
            **fields,
            "vocab_size": self.vocab_size or 1,
            "layer_scale": LAYER_SCALE if self.layer_scale else 0.0,
        }


def beit_places(sizes: BeitSizes) -> dict[str, Place]:
    """Every official tensor of a BEiT of these sizes and its place in ours: dict name -> Place."""
    places = [
        ("cls_token", Place(("image_embedding", "class_token"), (), ROW)),
        (PATCH, Place(("image_embedding", "patch"), (), patch_layout(sizes.patch_size))),
        ("patch_embed.proj.bias", Place(("image_embedding", "patch_bias"), (), SAME)),
    ]
    if sizes.mask_token:
        places.append(("mask_token", Place(("image_embedding", "mask_token"), (), ROW)))
    if sizes.position in ("absolute", "both"):
        places.append((POSITIONS, Place(("image_embedding", "position"), (), ROWS)))
    if sizes.final_norm:
        places += norm_places("norm", ("transformer", "norm"))
    if sizes.vocab_size is not None:
        places += dense_places("lm_head", ("mim_head",))
    table = ("transformer", "relative_position_bias")
    relative = sizes.position in ("relative", "both")
    if relative and sizes.shared_table:
        places.append((SHARED_TABLE, Place(table, (0,), SAME)))
    num_lower = sizes.depth - sizes.num_upper
    for layer in range(sizes.depth):
        stack, number = ("lower", layer) if layer < num_lower else ("upper", layer - num_lower)
        prefix, root = f"blocks.{layer}.", ("transformer", stack)
        places += attention_places(
            prefix, root, number, num_heads=sizes.num_heads, layer_scale=sizes.layer_scale
        )
        places += expert_places(prefix, "", root, number, 0)
        if relative and not sizes.shared_table:
            places.append((prefix + TABLE, Place(table, (layer,), SAME)))
    return dict(places)


def find_sizes(
    tensors: Mapping[str, Any], *, num_heads: int | None = None, num_upper: int | None = None
) -> BeitSizes:
    """Finds the sizes of a BEiT from the shapes of its tensors.

    Args:
        tensors: official name -> array.
        num_heads: H; None: as many as the position table has columns, or width / 64 without one.
        num_upper: blocks in the stack `upper`; None: as VLMo has them, 2 of 12 or fewer, else 3.

    Raises:
        ValueError: a tensor that tells a size is missing or has another number of axes, or tensors
            disagree.
    """
    if missing := [name for name in (PATCH, FIRST) if name not in tensors]:
        raise ValueError(f"this is no BEiT: missing {missing}")
    check_ranks(
        "BEiT",
        tensors,
        {PATCH: 4, FIRST: 2, SHARED_TABLE: 2, FIRST_TABLE: 2, POSITIONS: 3, HEAD: 2},
    )
    width, _, patch_size, _ = tensors[PATCH].shape
    depth = 1 + max(int(name.split(".")[1]) for name in tensors if re.match(r"blocks\.\d+\.", name))
    check_depth(tensors, depth - 1)
    check_upper(num_upper, depth)
    table, position = _positions(tensors)
    grids = {}
    if table:
        rows, columns = tensors[table].shape
        grids[table] = _relative_grid(table, rows)
        num_heads = num_heads or columns
    if POSITIONS in tensors:
        grids[POSITIONS] = _absolute_grid(tensors[POSITIONS].shape[1])
    if len(set(grids.values())) > 1:
        raise ValueError(f"position tables of different grids: {grids} patches a side")
    return BeitSizes(
        image_size=patch_size * next(iter(grids.values())),
        patch_size=patch_size,
        width=width,
        depth=depth,
        num_upper=num_upper or max(1, min(2 if depth <= 12 else 3, depth - 1)),
        num_heads=num_heads or width // HEAD_WIDTH,
        mlp_dim=len(tensors[FIRST]),
        position=position,
        shared_table=table == SHARED_TABLE,
        layer_scale="blocks.0.gamma_1" in tensors,
        vocab_size=len(tensors[HEAD]) if HEAD in tensors else None,
        mask_token="mask_token" in tensors,
        final_norm="norm.weight" in tensors,
    )


def _positions(tensors: Mapping[str, Any]) -> tuple[str | None, str]:
    """The name of the (first) relative position table, or None, and BEiT's argument `position`."""
    tables = [name for name in (SHARED_TABLE, FIRST_TABLE) if name in tensors]
    if len(tables) == 2:
        raise ValueError(
            f"{SHARED_TABLE} and {FIRST_TABLE}: a BEiT has one table for all layers or one a"
            " layer, not both"
        )
    if not tables and POSITIONS not in tensors:
        raise ValueError(
            f"this BEiT has no positions, neither {POSITIONS} nor {SHARED_TABLE} nor {FIRST_TABLE}"
        )
    if not tables:
        return None, "absolute"
    return tables[0], "both" if POSITIONS in tensors else "relative"


def _relative_grid(table: str, rows: int) -> int:
    """Patches a side of a relative position table."""
    grid = (math.isqrt(max(rows - 3, 0)) + 1) // 2
    if num_image_rows(grid) != rows:
        raise ValueError(
            f"{table}: {rows} rows are those of no square grid of patches, (2 w - 1)^2 + 3"
        )
    return grid


def _absolute_grid(tokens: int) -> int:
    """Patches a side of absolute positions."""
    grid = math.isqrt(max(tokens - 1, 0))
    if not grid or grid**2 + 1 != tokens:
        raise ValueError(
            f"{POSITIONS}: {tokens} tokens are not those of a square grid of patches, w^2 + 1"
        )
    return grid


def from_beit(
    tensors: Mapping[str, np.ndarray],
    *,
    num_heads: int | None = None,
    num_upper: int | None = None,
) -> tuple[dict, BeitSizes, dict[str, np.ndarray]]:
    """Converts a BEiT checkpoint, in official or in HuggingFace's names, to our parameters.

    Args:
        tensors: mapping name -> numpy array.
        num_heads: see `find_sizes`.
        num_upper: see `find_sizes`.

    Returns:
        Parameters as a pure nested dict of numpy arrays; of a classifier without the parts it
        lacks.
        BeitSizes.
        A dict official name -> array of what is kept aside: index buffers and a classifier's head.

    Raises:
        ValueError: names the missing, unexpected and mis-shaped tensors.
    """
    huggingface = is_huggingface(tensors)
    tensors = from_huggingface(tensors) if huggingface else tensors
    sizes = find_sizes(tensors, num_heads=num_heads, num_upper=num_upper)
    places = beit_places(sizes)
    aside = {
        name: np.array(tensors[name])
        for name in tensors
        if name not in places and re.fullmatch(ASIDE, name)
    }
    missing = set(places) - set(tensors)
    if sizes.vocab_size is not None:
        missing |= ONLY_MASKED_IMAGES - set(tensors)
    unexpected = set(tensors) - set(places) - set(aside)
    if missing or unexpected:
        raise ValueError(
            f"not a BEiT of these sizes: missing {_spelled(missing, huggingface)}; unexpected"
            f" {_spelled(unexpected, huggingface)}"
        )
    model = abstract_params(model_maker({"kind": "beit", **sizes.model_fields()}))
    if wrong := wrong_shapes(tensors, places, model):
        raise ValueError(
            f"not a BEiT of width {sizes.width}, {sizes.num_heads} heads, {sizes.image_size} px:"
            f" {'; '.join(wrong[:5])}"
        )
    for name, expected in index_buffers(sizes).items():
        if name in aside and not np.array_equal(aside[name], expected):
            raise ValueError(
                f"{name}: not the index of a grid of {sizes.image_size // sizes.patch_size} patches"
                " a side"
            )
    return fill_places(tensors, places), sizes, aside


def _spelled(names: Iterable[str], huggingface: bool) -> str:
    """Official names as the checkpoint spells them, for a message."""
    if huggingface:
        names = [spelled for name in names for spelled in huggingface_names(name)]
    return named(sorted(names))


def to_beit(
    params: Any,
    sizes: BeitSizes,
    aside: Mapping[str, np.ndarray] | None = None,
    *,
    huggingface: bool = False,
) -> dict[str, np.ndarray]:
    """Converts our parameters to a BEiT state dict of numpy arrays; the inverse of `from_beit`.

    Args:
        params: pure nested dict.
        sizes: BeitSizes.
        aside: mapping official name -> array of further tensors: what `from_beit` kept, or
            `index_buffers`, which the official code asks for; None for none.
        huggingface: use HuggingFace's names.

    Raises:
        ValueError: a parameter of ours has no name there.
    """
    tensors = {**empty_places(params, beit_places(sizes)), **(aside or {})}
    return to_huggingface(tensors) if huggingface else tensors


def index_buffers(sizes: BeitSizes) -> dict[str, np.ndarray]:
    """The index buffers of the official code, int64, by name."""
    if sizes.position == "absolute":
        return {}
    index = image_index(sizes.image_size // sizes.patch_size).astype(np.int64)
    if sizes.shared_table:
        return {"rel_pos_bias.relative_position_index": index}
    return {f"blocks.{layer}.attn.relative_position_index": index for layer in range(sizes.depth)}
