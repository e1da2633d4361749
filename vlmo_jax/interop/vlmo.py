"""Names and layouts of the official VLMo state dict, both ways.

The table below pairs every official tensor with a place in our parameters. It is complete: an
official tensor without a place, or a place without a tensor, is an error. Tensors that the official
model owns and never reads are handed back untouched, so that the way back is whole.
"""

import re

import numpy as np

from vlmo_jax.interop.places import (
    LINEAR, ROW, ROWS, SAME, Layout, Place, attention_places, dense_places, empty_places, expert_places, fill_places, norm_places,
    patch_layout,
)  # fmt: skip
from vlmo_jax.layers.modality_experts import EXPERTS

EXPERT_SUFFIX = {"image": "_imag", "text": "_text", "vision_language": "_vl"}

# Owned by official models and read by none of their forward passes beside what the rest gives:
# index buffers, and text positions where a relative bias takes their place.
UNREAD = (
    r"text_embeddings\.position_ids",
    r"text_embeddings\.token_type_ids",
    r"(text_|text_imag_)?relative_position_index",
)
UNREAD_BESIDE_RELATIVE = (r"text_embeddings\.position_embeddings\.weight",)


def _bias_table(depth):
    return Layout(
        lambda t: t.reshape(len(t), depth, -1).transpose(1, 0, 2),
        lambda t: t.transpose(1, 0, 2).reshape(t.shape[1], -1),
    )


def _block_places(layer, num_lower, num_heads, layer_scale):
    upper = layer >= num_lower
    stack, number = ("upper", layer - num_lower) if upper else ("lower", layer)
    prefix, root = f"transformer.blocks.{layer}.", ("transformer", stack)
    yield from attention_places(prefix, root, number, num_heads=num_heads, layer_scale=layer_scale)
    for expert, suffix in EXPERT_SUFFIX.items():
        if upper or expert != "vision_language":
            yield from expert_places(prefix, suffix, root, number, EXPERTS[expert])


def official_places(*, depth, num_upper, num_heads, patch_size, position, layer_scale):
    """Every official tensor of a stage-3 model and its place in ours.

    Args:
      depth, num_upper, num_heads, patch_size: sizes.
      position: "relative" or "absolute".
      layer_scale: whether blocks have gammas.

    Returns:
      dict official name -> Place.
    """
    places = [
        ("transformer.cls_token", Place(("image_embedding", "class_token"), (), ROW)),
        ("transformer.patch_embed.proj.weight", Place(("image_embedding", "patch"), (), patch_layout(patch_size))),
        ("transformer.patch_embed.proj.bias", Place(("image_embedding", "patch_bias"), (), SAME)),
        ("text_embeddings.word_embeddings.weight", Place(("text_embedding", "word"), (), SAME)),
        ("text_embeddings.token_type_embeddings.weight", Place(("text_embedding", "segment"), (), SAME)),
        *norm_places("text_embeddings.LayerNorm", ("text_embedding", "norm")),
        ("token_type_embeddings.weight", Place(("modality_type",), (), SAME)),
        *norm_places("transformer.norm", ("transformer", "norm")),
        *dense_places("pooler.dense", ("pooler", "dense")),
        *dense_places("itm_score.fc", ("itm_head",)),
        *dense_places("mlm_score.transform.dense", ("mlm_head", "dense")),
        *norm_places("mlm_score.transform.LayerNorm", ("mlm_head", "norm")),
        ("mlm_score.decoder.weight", Place(("mlm_head", "decoder", "kernel"), (), LINEAR)),
        ("mlm_score.bias", Place(("mlm_head", "decoder", "bias"), (), SAME)),
    ]
    for ours, infix in (("itc", ""), ("itc_vl", "_vl")):
        places.append((f"logit{infix}_scale", Place((ours, "logit_scale"), (), SAME)))
        for modality in ("image", "text"):
            place = Place((ours, modality, "kernel"), (), LINEAR)
            places.append((f"itc{infix}_{modality}_proj.fc.weight", place))
    if position == "relative":
        table = Place(("transformer", "relative_position_bias"), (), _bias_table(depth))
        places.append(("relative_position_bias_table", table))
    else:
        places.append(("transformer.pos_embed", Place(("image_embedding", "position"), (), ROWS)))
        places.append(("text_embeddings.position_embeddings.weight", Place(("text_embedding", "position"), (), SAME)))
    for layer in range(depth):
        places.extend(_block_places(layer, depth - num_upper, num_heads, layer_scale))
    return dict(places)


def is_unread(name, position):
    """Whether the official model owns this tensor without reading it."""
    patterns = UNREAD + (UNREAD_BESIDE_RELATIVE if position == "relative" else ())
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def from_official(tensors, places, position):
    """Converts an official state dict to our parameters.

    Args:
      tensors: mapping official name -> numpy array.
      places: of `official_places`.
      position: "relative" or "absolute".

    Returns:
      Our parameters as a pure nested dict of numpy arrays, and the tensors that no forward pass reads.

    Raises:
      ValueError: names the missing and the unexpected tensors.
    """
    unread = {name: value for name, value in tensors.items() if name not in places and is_unread(name, position)}
    missing = sorted(set(places) - set(tensors))
    unexpected = sorted(set(tensors) - set(places) - set(unread))
    if missing or unexpected:
        raise ValueError(f"not a stage-3 VLMo of these sizes: missing {missing or 'none'}; unexpected {unexpected or 'none'}")
    return fill_places({name: np.asarray(tensors[name]) for name in places}, places), unread


def to_official(params, places, unread=()):
    """Converts our parameters to an official state dict of numpy arrays.

    Args:
      params: pure nested dict.
      places: of `official_places`.
      unread: mapping of tensors kept aside by `from_official`.

    Raises:
      ValueError: a parameter of ours has no official name.
    """
    return {**empty_places(params, places), **dict(unread)}
