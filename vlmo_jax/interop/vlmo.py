"""Names and layouts of the official VLMo state dict, both ways.

The table below pairs every official tensor with a place in our parameters. It is complete: an
official tensor without a place, or a place without a tensor, is an error. Tensors that the official
model owns and never reads are handed back untouched, so that the way back is whole.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vlmo_jax.interop.places import (
    LINEAR,
    ROW,
    ROWS,
    SAME,
    Layout,
    NamedPlace,
    Place,
    attention_places,
    dense_places,
    empty_places,
    expert_places,
    fill_places,
    named,
    norm_places,
    patch_layout,
)
from vlmo_jax.layers.modality_experts import EXPERTS
from vlmo_jax.models.vlmo_fields import HEADS

LOWER_EXPERTS: tuple[str, ...] = ("image", "text")
EXPERT_SUFFIX = {"image": "_imag", "text": "_text", "vision_language": "_vl"}

# Owned by official models and read by none of their forward passes beside what the rest gives:
# index buffers, text positions where a relative bias takes their place, and the pooler where no
# head reads it.
UNREAD = (
    r"text_embeddings\.position_ids",
    r"text_embeddings\.token_type_ids",
    r"(text_|text_imag_)?relative_position_index",
    r"pooler\.dense\.(weight|bias)",
)
UNREAD_BESIDE_RELATIVE = (r"text_embeddings\.position_embeddings\.weight",)


def _bias_table(depth: int) -> Layout:
    return Layout(
        lambda t: t.reshape(len(t), depth, -1).transpose(1, 0, 2),
        lambda t: t.transpose(1, 0, 2).reshape(t.shape[1], -1),
    )


def _block_places(
    layer: int, num_lower: int, num_heads: int, layer_scale: bool, upper_experts: Iterable[str]
) -> Iterator[NamedPlace]:
    if layer < num_lower:
        stack, number, experts = "lower", layer, LOWER_EXPERTS
    else:
        stack, number, experts = "upper", layer - num_lower, tuple(upper_experts)
    prefix, root = f"transformer.blocks.{layer}.", ("transformer", stack)
    yield from attention_places(prefix, root, number, num_heads=num_heads, layer_scale=layer_scale)
    for expert in experts:
        yield from expert_places(prefix, EXPERT_SUFFIX[expert], root, number, EXPERTS[expert])


def _contrast_places(ours: str, infix: str) -> Iterator[NamedPlace]:
    yield f"logit{infix}_scale", Place((ours, "logit_scale"), (), SAME)
    for modality in ("image", "text"):
        yield f"itc{infix}_{modality}_proj.fc.weight", Place((ours, modality, "kernel"), (), LINEAR)


def _classifier_places(task: str) -> Iterator[NamedPlace]:
    name, head = f"{task}_classifier", f"{task}_head"
    yield from dense_places(f"{name}.0", (head, "dense"))
    yield from norm_places(f"{name}.1", (head, "norm"))
    yield from dense_places(f"{name}.3", (head, "out"))


# The official tensors of each module that VLMo builds for some heads only.
MODULES: dict[str, dict[str, Place]] = {
    "pooler": dict(dense_places("pooler.dense", ("pooler", "dense"))),
    "itc": dict(_contrast_places("itc", "")),
    "itc_vl": dict(_contrast_places("itc_vl", "_vl")),
    "itm_head": dict(dense_places("itm_score.fc", ("itm_head",))),
    "mlm_head": {
        **dict(dense_places("mlm_score.transform.dense", ("mlm_head", "dense"))),
        **dict(norm_places("mlm_score.transform.LayerNorm", ("mlm_head", "norm"))),
        "mlm_score.decoder.weight": Place(("mlm_head", "decoder", "kernel"), (), LINEAR),
        "mlm_score.bias": Place(("mlm_head", "decoder", "bias"), (), SAME),
    },
    "vqa_head": dict(_classifier_places("vqa")),
    "nlvr2_head": dict(_classifier_places("nlvr2")),
}


def official_parts(names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The experts and heads that an official model with tensors of these names has.

    Args:
        names: official names; those of buffers or other models are passed over.

    Returns:
        dict of `experts` and `heads`, arguments of models.vlmo.VLMo.
    """
    owned = {module for module, places in MODULES.items() if any(name in places for name in names)}
    # Every official file holds the pooler, so it tells of no head.
    heads = [head for head, modules in HEADS.items() if set(modules) - {"pooler"} <= owned]
    if "itc" in heads:
        heads.remove("retrieval")
    fused = any(re.search(r"blocks\.\d+\.(mlp|norm2)_vl\.", name) for name in names)
    return {"experts": tuple(EXPERTS) if fused else LOWER_EXPERTS, "heads": tuple(heads)}


def official_places(
    *,
    depth: int,
    num_upper: int,
    num_heads: int,
    patch_size: int,
    position: str,
    layer_scale: bool,
    experts: Iterable[str] = tuple(EXPERTS),
    heads: Iterable[str] = ("itc", "itm", "mlm"),
) -> dict[str, Place]:
    """Every official tensor of a model and its place in ours.

    Args:
        depth, num_upper, num_heads, patch_size: sizes.
        position: "relative" or "absolute".
        layer_scale: whether blocks have gammas.
        experts, heads: of models.vlmo.VLMo.

    Returns:
        dict official name -> Place.
    """
    places = {
        "transformer.cls_token": Place(("image_embedding", "class_token"), (), ROW),
        "transformer.patch_embed.proj.weight": Place(
            ("image_embedding", "patch"), (), patch_layout(patch_size)
        ),
        "transformer.patch_embed.proj.bias": Place(("image_embedding", "patch_bias"), (), SAME),
        "text_embeddings.word_embeddings.weight": Place(("text_embedding", "word"), (), SAME),
        "text_embeddings.token_type_embeddings.weight": Place(
            ("text_embedding", "segment"), (), SAME
        ),
        **dict(norm_places("text_embeddings.LayerNorm", ("text_embedding", "norm"))),
        "token_type_embeddings.weight": Place(("modality_type",), (), SAME),
        **dict(norm_places("transformer.norm", ("transformer", "norm"))),
    }
    built = {module for head in heads for module in HEADS[head]}
    for module, its_places in MODULES.items():
        if module in built:
            places.update(its_places)
    if position == "relative":
        places["relative_position_bias_table"] = Place(
            ("transformer", "relative_position_bias"), (), _bias_table(depth)
        )
    else:
        places["transformer.pos_embed"] = Place(("image_embedding", "position"), (), ROWS)
        places["text_embeddings.position_embeddings.weight"] = Place(
            ("text_embedding", "position"), (), SAME
        )
    for layer in range(depth):
        places.update(_block_places(layer, depth - num_upper, num_heads, layer_scale, experts))
    return places


def unread_names(names: Iterable[str], places: Mapping[str, Place], position: str) -> list[str]:
    """The names that the official model owns without reading them, sorted.

    Args:
        names: official names.
        places: of `official_places`.
        position: "relative" or "absolute".
    """
    patterns = UNREAD + (UNREAD_BESIDE_RELATIVE if position == "relative" else ())
    return sorted(
        name
        for name in names
        if name not in places and any(re.fullmatch(pattern, name) for pattern in patterns)
    )


def from_official(
    tensors: Mapping[str, np.ndarray], places: Mapping[str, Place], position: str
) -> tuple[dict, dict[str, np.ndarray]]:
    """Converts an official state dict to our parameters.

    Args:
        tensors: mapping official name -> numpy array. Its values are asked for one by one, so it
            may read them from a file.
        places: of `official_places`.
        position: "relative" or "absolute".

    Returns:
        Our parameters as a pure nested dict of numpy arrays, and the tensors that no forward pass
        reads.

    Raises:
        ValueError: names the missing and the unexpected tensors.
    """
    unread = unread_names(tensors, places, position)
    missing = sorted(set(places) - set(tensors))
    unexpected = sorted(set(tensors) - set(places) - set(unread))
    if missing or unexpected:
        raise ValueError(
            f"not a VLMo of these sizes and heads: missing {named(missing)}; unexpected"
            f" {named(unexpected)}"
        )
    return fill_places(tensors, places), {name: np.array(tensors[name]) for name in unread}


def to_official(
    params: Any, places: Mapping[str, Place], unread: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Converts our parameters to an official state dict.

    Args:
        params: pure nested dict.
        places: of `official_places`.
        unread: tensors that `from_official` gave back beside ours, or None.

    Returns:
        dict official name -> numpy array, as far as possible a view of ours.

    Raises:
        ValueError: a parameter of ours has no official name.
    """
    return {**empty_places(params, places), **(unread or {})}
