"""Names and layouts of BEiT's fine-tuned segmenters, both ways: those of the official code (unilm
with mmsegmentation) and of HuggingFace.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vlmo_jax.commands.endings import UserError
from vlmo_jax.interop.beit import BeitSizes, beit_places, from_beit, index_buffers
from vlmo_jax.interop.converted import RUNTIME, Converted, Tensors, preprocessing, refuse_hints
from vlmo_jax.interop.huggingface_beit import from_huggingface, is_huggingface, to_huggingface
from vlmo_jax.interop.made_tensors import MadeTensors
from vlmo_jax.interop.places import (
    SAME,
    Layout,
    NamedPlace,
    ParamPath,
    Place,
    check_ranks,
    empty_places,
    fill_places,
    named,
    wrong_shapes,
)
from vlmo_jax.interop.recipe_configs import whole_config
from vlmo_jax.layers.upernet import SCALES
from vlmo_jax.models.build import abstract_params, model_maker
from vlmo_jax.models.segmenter import AUXILIARY_GRID, POOLED_PARTS

BACKBONE = "backbone."
HEADS = r"(fpn1|fpn2|decode_head|auxiliary_head)\..*"
COUNTER = "num_batches_tracked"
# Which blocks the published models read, by depth; their files do not say.
BLOCKS = {12: (3, 5, 7, 11), 24: (7, 11, 15, 23)}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}

CONV = Layout(lambda w: w.transpose(2, 3, 1, 0), lambda k: k.transpose(3, 2, 0, 1))
TRANSPOSED = Layout(lambda w: w.transpose(2, 3, 0, 1), lambda k: k.transpose(2, 3, 0, 1))
POINT = Layout(lambda w: w[:, :, 0, 0].T, lambda k: k.T[:, :, None, None])


class NotASegmenterError(UserError, ValueError):
    """Tensors that are no segmenter with UperNet."""


def head_places(pooled: int) -> dict[str, Place]:
    """Every official tensor of the scales and the heads, running statistics among them, and its
    place in ours.

    Args:
        pooled: how many poolings there are.
    """
    places = [
        *_doubling("fpn1.0", ("scales", "first")),
        *_norm("fpn1.1", ("scales", "first_norm")),
        *_doubling("fpn1.3", ("scales", "first_again")),
        *_doubling("fpn2.0", ("scales", "second")),
    ]
    head, upper = "decode_head", ("head",)
    for number in range(pooled):
        path = (*upper, "pyramid", "pooled", f"at_{number}")
        places += _conv_norm(f"{head}.psp_modules.{number}.1", path)
    places += _conv_norm(f"{head}.bottleneck", (*upper, "pyramid", "joined"))
    for number in range(SCALES - 1):
        places += _conv_norm(f"{head}.lateral_convs.{number}", (*upper, "lateral", f"at_{number}"))
        places += _conv_norm(f"{head}.fpn_convs.{number}", (*upper, "smooth", f"at_{number}"))
    places += _conv_norm(f"{head}.fpn_bottleneck", (*upper, "joined"))
    places += _classes(f"{head}.conv_seg", (*upper, "classes"))
    places += _conv_norm("auxiliary_head.convs.0", ("auxiliary_head", "conv"))
    places += _classes("auxiliary_head.conv_seg", ("auxiliary_head", "classes"))
    return dict(places)


def _doubling(name: str, path: ParamPath) -> list[NamedPlace]:
    return [
        (f"{name}.weight", Place((*path, "kernel"), (), TRANSPOSED)),
        (f"{name}.bias", Place((*path, "bias"), (), SAME)),
    ]


def _norm(name: str, path: ParamPath) -> list[NamedPlace]:
    return [
        (f"{name}.weight", Place((*path, "scale"), (), SAME)),
        (f"{name}.bias", Place((*path, "bias"), (), SAME)),
        (f"{name}.running_mean", Place((*path, "running_mean"), (), SAME)),
        (f"{name}.running_var", Place((*path, "running_variance"), (), SAME)),
    ]


def _conv_norm(name: str, path: ParamPath) -> list[NamedPlace]:
    kernel = Place((*path, "conv", "kernel"), (), CONV)
    return [(f"{name}.conv.weight", kernel), *_norm(f"{name}.bn", (*path, "norm"))]


def _classes(name: str, path: ParamPath) -> list[NamedPlace]:
    return [
        (f"{name}.weight", Place((*path, "kernel"), (), POINT)),
        (f"{name}.bias", Place((*path, "bias"), (), SAME)),
    ]


def official_names(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Tensors of either spelling by the official names, without the prefix of the backbone.

    Each is read when it is asked for.
    """
    makers = {}
    for name in tensors:
        bare = re.sub(r"_head\.classifier\.", "_head.conv_seg.", name.removeprefix(BACKBONE))
        makers[bare] = functools.partial(tensors.__getitem__, name)
    spelled = MadeTensors(makers)
    return from_huggingface(spelled) if is_huggingface(spelled) else spelled


def from_beit_segmenter(
    tensors: Mapping[str, np.ndarray],
    *,
    num_heads: int | None = None,
    num_upper: int | None = None,
) -> tuple[dict, BeitSizes, dict[str, int], dict[str, np.ndarray]]:
    """Converts a BEiT with UperNet, in official or in HuggingFace's names, to our parameters.

    Args:
        tensors: mapping name -> numpy array, running statistics among them.
        num_heads, num_upper: see `interop.beit.find_sizes`.

    Returns:
        Parameters of an ImageSegmenter as a pure nested dict of numpy arrays.
        BeitSizes.
        The sizes of the heads, fields of `config.model`.
        A dict official name -> what is kept aside: index buffers and counters.

    Raises:
        ValueError: it is no segmenter, or names the missing, unexpected and mis-shaped tensors.
    """
    tensors = official_names(tensors)
    pooled = sum(
        re.fullmatch(r"decode_head\.psp_modules\.\d+\.1\.conv\.weight", name) is not None
        for name in tensors
    )
    places = head_places(pooled)
    if missing := [name for name in places if name not in tensors]:
        raise NotASegmenterError(
            f"this is no BEiT with UperNet: missing {named(missing)}; for one without heads use"
            " --from=beit"
        )
    inside = [name for name in tensors if re.fullmatch(HEADS, name)]
    counters = {name: np.array(tensors[name]) for name in inside if name.endswith(COUNTER)}
    if unexpected := sorted(set(inside) - set(counters) - set(places)):
        raise NotASegmenterError(f"unexpected in a BEiT with UperNet: {named(unexpected)}")
    heads = _chosen(tensors, places)
    body = _chosen(tensors, [name for name in tensors if name not in inside])
    ranks = {name: 1 if place.layout is SAME else 4 for name, place in places.items()}
    check_ranks("segmenter", heads, ranks)
    params, sizes, aside = from_beit(body, num_heads=num_heads, num_upper=num_upper)
    found = {
        "num_classes": len(heads["decode_head.conv_seg.weight"]),
        "head_channels": len(heads["decode_head.bottleneck.conv.weight"]),
        "auxiliary_channels": len(heads["auxiliary_head.convs.0.conv.weight"]),
    }
    # Which parts are pooled changes no shape.
    made = abstract_params(
        model_maker(segmenter_fields(sizes, found, blocks=(0,) * SCALES, parts=(1,) * pooled))
    )
    if wrong := wrong_shapes(heads, places, made):
        raise NotASegmenterError(
            f"heads that do not fit a BEiT of width {sizes.width}: {'; '.join(wrong[:5])}"
        )
    return {**params, **fill_places(heads, places)}, sizes, found, {**aside, **counters}


def _chosen(tensors: Mapping[str, np.ndarray], names: Iterable[str]) -> MadeTensors:
    """Those of some names, none of which is read yet."""
    return MadeTensors({name: functools.partial(tensors.__getitem__, name) for name in names})


def segmenter_fields(
    sizes: BeitSizes, heads: Mapping[str, int], *, blocks: tuple[int, ...], parts: tuple[int, ...]
) -> dict[str, Any]:
    """`config.model` of an ImageSegmenter, without what only training reads.

    Args:
        sizes: of the encoder.
        heads: of `from_beit_segmenter`.
        blocks: that are read.
        parts: of the poolings.
    """
    fields = sizes.model_fields()
    del fields["vocab_size"]
    return {"kind": "image_segmenter", **fields, **heads, "blocks": blocks, "pooled_parts": parts}


def to_beit_segmenter(
    params: Any,
    sizes: BeitSizes,
    aside: Mapping[str, np.ndarray] | None = None,
    *,
    huggingface: bool = False,
) -> dict[str, np.ndarray]:
    """Converts our parameters to a state dict of numpy arrays; the inverse of
    `from_beit_segmenter`.

    Args:
        params: pure nested dict.
        sizes: BeitSizes.
        aside: mapping official name -> array of further tensors, such as `index_buffers`.
        huggingface: use HuggingFace's names; the official ones have the prefix "backbone.".
    """
    pooled = len(params["head"]["pyramid"]["pooled"])
    places = {**beit_places(sizes), **head_places(pooled)}
    tensors = {**empty_places(params, places), **(aside or {})}
    if huggingface:
        spelled = to_huggingface(tensors)
        return {
            name.replace("_head.conv_seg.", "_head.classifier."): spelled[name] for name in spelled
        }
    inside = r"(decode_head|auxiliary_head)\..*"
    return {
        name if re.fullmatch(inside, name) else BACKBONE + name: tensor
        for name, tensor in tensors.items()
    }


def segmenter_sizes(model: Mapping[str, Any]) -> BeitSizes:
    """The sizes of the encoder of an ImageSegmenter by the fields of its `config.model`."""
    own = {name: model[name] for name in BeitSizes._fields if name in model}
    own |= {
        "shared_table": model.get("shared_table", False),
        "layer_scale": bool(model["layer_scale"]),
    }
    return BeitSizes(**own, vocab_size=None, mask_token=False, final_norm=False)


def read_beit_segmenter(
    tensors: Tensors,
    *,
    num_heads: int | None = None,
    num_upper: int | None = None,
    **others: Any,
) -> Converted:
    """Reads a fine-tuned BEiT with UperNet.

    The four blocks are those of the official models of 12 and 24 blocks, for others the last of
    each quarter.

    Args:
        tensors: name -> array.
        num_heads, num_upper: see `from_beit_segmenter`.
        others: hints that are of no use here, all None.
    """
    refuse_hints("beit_segmenter", others)
    params, sizes, heads, aside = from_beit_segmenter(
        tensors, num_heads=num_heads, num_upper=num_upper
    )
    pooled = len(params["head"]["pyramid"]["pooled"])
    if pooled != len(POOLED_PARTS):
        raise NotASegmenterError(f"UperNet pools {len(POOLED_PARTS)} times, this model {pooled}")
    depth = sizes.depth
    quarters = tuple(max(part * depth // SCALES - 1, 0) for part in range(1, SCALES + 1))
    blocks = BLOCKS.get(depth, quarters)
    fields = segmenter_fields(sizes, heads, blocks=blocks, parts=POOLED_PARTS)
    model = {**RUNTIME, **fields, "head_dropout": 0.0, "auxiliary_grid": AUXILIARY_GRID}
    config = whole_config(f"finetune_segment:base,{sizes.image_size}", model, **IMAGENET)
    ready = preprocessing(sizes.image_size, IMAGENET)
    return Converted(params, config, ready, aside, {"huggingface": is_huggingface(tensors)})


def write_beit_segmenter(
    params: Any, meta: Mapping[str, Any], aside: Tensors, *, huggingface: bool = False
) -> dict[str, np.ndarray]:
    """Writes a segmenter, trained here or converted, in official names; arguments as of
    `formats.write_vlmo`.

    Args:
        params: our parameters.
        meta: of their checkpoint.
        aside: tensors to add, by official name; index buffers where there are none.
        huggingface: write HuggingFace's names in their place.
    """
    model = meta["config"]["model"]
    if model.get("kind") != "image_segmenter":
        raise NotASegmenterError(f"config.model.kind={model.get('kind')!r} is no image_segmenter")
    sizes = segmenter_sizes(model)
    if not aside and not huggingface:  # which the official code asks for
        aside = index_buffers(sizes)
    return to_beit_segmenter(params, sizes, aside, huggingface=huggingface)


def write_beit_segmenter_hf(params: Any, meta: Mapping[str, Any], aside: Tensors) -> dict:
    """As `write_beit_segmenter`, in HuggingFace's names."""
    return write_beit_segmenter(params, meta, aside, huggingface=True)
