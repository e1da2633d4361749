"""What a pass through VSE-infinity costs; see models/flops.py for what is counted."""

from collections.abc import Mapping
from typing import Any

from vlmo_jax.models.flops import PassFlops, block_flops

_POSITION, _HIDDEN = 32, 32  # of generalized pooling


def pass_flops(model: Mapping[str, Any]) -> PassFlops:
    """FLOPs of the passes: see `image_flops` and `text_flops`; an answer reads both vectors."""
    image, text = image_flops(model), text_flops(model)
    width = 2 * model["embed_width"]
    head = 2 * width * (width + model.get("num_answers", 1))
    return PassFlops(image, text, 0, image + text + head)


def image_flops(model: Mapping[str, Any]) -> int:
    """FLOPs of one image: with R places of F numbers, E embed_width and M region_mlp,

    ViT, where it sees images   image_depth L(P) and the patches
    Dense                       2 R F E
    MLP                         2 R (F M + M E)
    pooling                     see `pooling_flops`, and 2 R E for the weighted sum
    """
    embed, total = model["embed_width"], 0
    if model["num_regions"]:
        places, seen = model["num_regions"], model["region_width"]
    else:
        places, seen = (model["image_size"] // model["patch_size"]) ** 2, model["image_width"]
        total += model["image_depth"] * block_flops(places + 1, seen, model["image_mlp_dim"])
        total += 2 * places * 3 * model["patch_size"] ** 2 * seen
    hidden = model.get("region_mlp", 0)
    total += 2 * places * (seen * embed + hidden * (seen + embed))
    return total + pooling_flops(model, places)


def text_flops(model: Mapping[str, Any]) -> int:
    """FLOPs of one text: depth L(T), Dense at all tokens, pooling."""
    length, width = model["text_length"], model["width"]
    blocks = model["depth"] * block_flops(length, width, model["mlp_dim"])
    return blocks + 2 * length * width * model["embed_width"] + pooling_flops(model, length)


def pooling_flops(model: Mapping[str, Any], places: int) -> int:
    """FLOPs of pooling so many places: both GRUs and the score at each, as the official code runs
    them for every example, and the weighted sum.
    """
    summed = 2 * places * model["embed_width"]
    if model["pooling"] == "mean":
        return summed
    return summed + places * (2 * 2 * 3 * _HIDDEN * (_POSITION + _HIDDEN) + 2 * _HIDDEN)
