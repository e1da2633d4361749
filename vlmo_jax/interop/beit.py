"""Names and layouts of BEiT checkpoints, both ways: those of the official code (unilm) and of
HuggingFace.

The table of places is in the official names; HuggingFace's are translated to them first, its three
matrices of query, key and value put into one. Masked-image models have everything; classifiers that
were fine-tuned from them lack some parts and bring `head` and `fc_norm`, which are kept aside with
the index buffers, so that the way back is whole.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from vlmo_jax.interop.places import (
    ROW,
    ROWS,
    SAME,
    Place,
    attention_places,
    check_ranks,
    dense_places,
    empty_places,
    expert_places,
    fill_places,
    norm_places,
    patch_layout,
    wrong_shapes,
)
from vlmo_jax.layers.relative_position import image_index, num_image_rows
from vlmo_jax.models.beit import BEiT

PATCH, POSITIONS, FIRST = "patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight"
SHARED_TABLE, TABLE = (
    "rel_pos_bias.relative_position_bias_table",
    "attn.relative_position_bias_table",
)
# Kept aside: buffers that the rest tells, and the heads of classifiers.
ASIDE = r"(blocks\.\d+\.attn|rel_pos_bias)\.relative_position_index|(head|fc_norm)\.(weight|bias)"
# Width of an attention head in every published BEiT, for checkpoints without a position table to
# count heads by.
HEAD_WIDTH = 64

_HUGGINGFACE = {
    "cls_token": "beit.embeddings.cls_token",
    "mask_token": "beit.embeddings.mask_token",
    "pos_embed": "beit.embeddings.position_embeddings",
    "patch_embed.proj": "beit.embeddings.patch_embeddings.projection",
    "rel_pos_bias": "beit.encoder.relative_position_bias",
    "norm": "layernorm",
    "lm_head": "lm_head",
    "fc_norm": "beit.pooler.layernorm",
    "head": "classifier",
}
_HUGGINGFACE_BLOCK = {
    "gamma_1": "lambda_1",
    "gamma_2": "lambda_2",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.q_bias": "attention.attention.query.bias",
    "attn.v_bias": "attention.attention.value.bias",
    TABLE: "attention.attention.relative_position_bias.relative_position_bias_table",
    "attn.relative_position_index": (
        "attention.attention.relative_position_bias.relative_position_index"
    ),
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


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

    def model_fields(self):
        """Arguments of BEiT."""
        fields = self._asdict()
        del fields["mask_token"], fields["final_norm"]
        return {
            **fields,
            "vocab_size": self.vocab_size or 1,
            "layer_scale": 0.1 if self.layer_scale else None,
        }


def beit_places(sizes):
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
    table, relative = (
        ("transformer", "relative_position_bias"),
        sizes.position in ("relative", "both"),
    )
    if relative and sizes.shared_table:
        places.append((SHARED_TABLE, Place(table, (0,), SAME)))
    for layer in range(sizes.depth):
        num_lower = sizes.depth - sizes.num_upper
        stack, number = ("upper", layer - num_lower) if layer >= num_lower else ("lower", layer)
        prefix, root = f"blocks.{layer}.", ("transformer", stack)
        places += attention_places(
            prefix, root, number, num_heads=sizes.num_heads, layer_scale=sizes.layer_scale
        )
        places += expert_places(prefix, "", root, number, 0)
        if relative and not sizes.shared_table:
            places.append((prefix + TABLE, Place(table, (layer,), SAME)))
    return dict(places)


def find_sizes(tensors, *, num_heads=None, num_upper=None):
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
        {
            PATCH: 4,
            FIRST: 2,
            SHARED_TABLE: 2,
            f"blocks.0.{TABLE}": 2,
            POSITIONS: 3,
            "lm_head.weight": 2,
        },
    )
    width, _, patch_size, _ = tensors[PATCH].shape
    depth = 1 + max(int(name.split(".")[1]) for name in tensors if re.match(r"blocks\.\d+\.", name))
    shared, own = SHARED_TABLE in tensors, f"blocks.0.{TABLE}" in tensors
    absolute, relative = POSITIONS in tensors, shared or own
    if shared and own:
        raise ValueError(
            f"{SHARED_TABLE} and blocks.0.{TABLE}: a BEiT has one table for all layers or one a"
            " layer, not both"
        )
    if not (absolute or relative):
        raise ValueError(
            f"this BEiT has no positions, neither {POSITIONS} nor {SHARED_TABLE} nor"
            f" blocks.0.{TABLE}"
        )
    grids = {}
    if relative:
        name = SHARED_TABLE if shared else f"blocks.0.{TABLE}"
        rows, heads = tensors[name].shape
        grids[name] = (math.isqrt(max(rows - 3, 0)) + 1) // 2
        if num_image_rows(grids[name]) != rows:
            raise ValueError(
                f"{name}: {rows} rows are those of no square grid of patches, (2 w - 1)^2 + 3"
            )
        num_heads = num_heads or heads
    if absolute:
        tokens = tensors[POSITIONS].shape[1]
        grids[POSITIONS] = math.isqrt(max(tokens - 1, 0))
        if grids[POSITIONS] ** 2 + 1 != tokens:
            raise ValueError(
                f"{POSITIONS}: {tokens} tokens are not those of a square grid of patches, w^2 + 1"
            )
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
        position="both" if absolute and relative else "absolute" if absolute else "relative",
        shared_table=shared,
        layer_scale="blocks.0.gamma_1" in tensors,
        vocab_size=len(tensors["lm_head.weight"]) if "lm_head.weight" in tensors else None,
        mask_token="mask_token" in tensors,
        final_norm="norm.weight" in tensors,
    )


def from_beit(tensors: Mapping[str, np.ndarray], *, num_heads=None, num_upper=None):
    """Converts a BEiT checkpoint, in official or in HuggingFace's names, to our parameters.

    Args:
        tensors: mapping name -> numpy array.
        num_heads, num_upper: see `find_sizes`.

    Returns:
        Parameters as a pure nested dict of numpy arrays; of a classifier without the parts it
        lacks.
        BeitSizes.
        A dict official name -> array of what is kept aside: index buffers and a classifier's head.

    Raises:
        ValueError: names the missing, unexpected and mis-shaped tensors.
    """
    huggingface = is_huggingface(tensors)
    tensors = _official_names(tensors) if huggingface else dict(tensors)
    sizes = find_sizes(tensors, num_heads=num_heads, num_upper=num_upper)
    places = beit_places(sizes)
    say = lambda names: sorted(
        name
        for official in names
        for name in (_huggingface_names(official) if huggingface else [official])
    )
    aside = {
        name: tensors[name] for name in tensors if name not in places and re.fullmatch(ASIDE, name)
    }
    missing = set(places) - set(tensors)
    # Only a classifier may lack these; a masked-image model has the head for visual tokens.
    missing |= (
        {"mask_token", "norm.weight"} - set(tensors) if sizes.vocab_size is not None else set()
    )
    unexpected = set(tensors) - set(places) - set(aside)
    if missing or unexpected:
        raise ValueError(
            f"not a BEiT of these sizes: missing {say(missing) or 'none'}; unexpected"
            f" {say(unexpected) or 'none'}"
        )
    if wrong := wrong_shapes(tensors, places, _abstract_params(sizes)):
        raise ValueError(
            f"not a BEiT of width {sizes.width}, {sizes.num_heads} heads, {sizes.image_size} px:"
            f" {'; '.join(wrong)}"
        )
    for name, expected in index_buffers(sizes).items():
        if name in aside and not np.array_equal(aside[name], expected):
            raise ValueError(
                f"{name}: not the index of a grid of {sizes.image_size // sizes.patch_size} patches"
                " a side"
            )
    return fill_places({name: np.asarray(tensors[name]) for name in places}, places), sizes, aside


def to_beit(params, sizes, aside=(), *, huggingface=False):
    """Converts our parameters to a BEiT state dict of numpy arrays; the inverse of `from_beit`.

    Args:
        params: pure nested dict.
        sizes: BeitSizes.
        aside: mapping official name -> array of further tensors: what `from_beit` kept, or
            `index_buffers`, which the official code asks for.
        huggingface: use HuggingFace's names.

    Raises:
        ValueError: a parameter of ours has no name there.
    """
    tensors = {**empty_places(params, beit_places(sizes)), **dict(aside)}
    if not huggingface:
        return tensors
    named = {}
    for official, tensor in tensors.items():
        names = _huggingface_names(official)
        named.update(zip(names, np.split(tensor, len(names)) if len(names) > 1 else [tensor]))
    return named


def index_buffers(sizes):
    """The index buffers of the official code, int64, by name."""
    if sizes.position == "absolute":
        return {}
    index = image_index(sizes.image_size // sizes.patch_size).astype(np.int64)
    modules = (
        ["rel_pos_bias"]
        if sizes.shared_table
        else [f"blocks.{layer}.attn" for layer in range(sizes.depth)]
    )
    return {f"{module}.relative_position_index": index for module in modules}


def is_huggingface(tensors):
    """Whether the names are HuggingFace's."""
    return any(name.startswith("beit.") for name in tensors)


def _abstract_params(sizes):
    def make():
        with nnx.use_eager_sharding(False):
            return nnx.to_pure_dict(nnx.state(BEiT(**sizes.model_fields(), rngs=nnx.Rngs(0))))

    return jax.eval_shape(make)


def _huggingface_names(official):
    """The HuggingFace name of an official tensor; three for the joint matrix of query, key and
    value.
    """
    block = re.match(r"blocks\.(\d+)\.(.*)", official)
    prefix, name, table = "", official, _HUGGINGFACE
    if block:
        prefix, name, table = f"beit.encoder.layer.{block[1]}.", block[2], _HUGGINGFACE_BLOCK
    if block and name == "attn.qkv.weight":
        return [f"{prefix}attention.attention.{part}.weight" for part in ("query", "key", "value")]
    if name in table:
        return [prefix + table[name]]
    module, _, leaf = name.rpartition(".")
    return [f"{prefix}{table[module]}.{leaf}"] if module in table else [official]


def _official_names(tensors):
    """Tensors by official names from HuggingFace's; those without one keep their name."""
    layers = {
        int(match[1])
        for name in tensors
        if (match := re.match(r"beit\.encoder\.layer\.(\d+)\.", name))
    }
    leaves = lambda names: [f"{name}{leaf}" for name in names for leaf in ("", ".weight", ".bias")]
    known = leaves(_HUGGINGFACE) + [
        f"rel_pos_bias.relative_position_{kind}" for kind in ("bias_table", "index")
    ]
    for layer in sorted(layers):
        known += [
            f"blocks.{layer}.{name}" for name in [*leaves(_HUGGINGFACE_BLOCK), "attn.qkv.weight"]
        ]
    official, used = {}, set()
    for name in known:
        parts = _huggingface_names(name)
        if all(part in tensors for part in parts):
            official[name] = (
                tensors[parts[0]]
                if len(parts) == 1
                else np.concatenate([tensors[part] for part in parts])
            )
            used.update(parts)
    return official | {name: tensor for name, tensor in tensors.items() if name not in used}
