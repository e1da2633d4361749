"""Names and layouts of the official VLMo state dict, both ways.

The table below pairs every official tensor with a place in our parameters. It is complete: an
official tensor without a place, or a place without a tensor, is an error. Tensors that the official
model owns and never reads are handed back untouched, so that the way back is whole.
"""

import re
from typing import Callable, NamedTuple

import numpy as np
from flax import nnx

from vlmo_jax.layers.modality_experts import EXPERTS

EXPERT_SUFFIX = {"image": "imag", "text": "text", "vision_language": "vl"}

# Owned by official models and read by none of their forward passes beside what the rest gives:
# index buffers, and text positions where a relative bias takes their place.
UNREAD = (
    r"text_embeddings\.position_ids",
    r"text_embeddings\.token_type_ids",
    r"(text_|text_imag_)?relative_position_index",
)
UNREAD_BESIDE_RELATIVE = (r"text_embeddings\.position_embeddings\.weight",)


class Layout(NamedTuple):
    """A pair of functions on one numpy tensor: official -> ours and back."""

    to_ours: Callable
    to_official: Callable


class Place(NamedTuple):
    """Where an official tensor lives: path in our tree, index on the stacked axes (layer, expert), layout."""

    path: tuple
    index: tuple
    layout: Layout


SAME = Layout(lambda x: x, lambda x: x)
LINEAR = Layout(lambda w: w.T, lambda k: k.T)
ROW = Layout(lambda x: x.reshape(-1), lambda x: x[None, None])
ROWS = Layout(lambda x: x[0], lambda x: x[None])


def _heads(num_heads):
    """Layouts of biases, qkv and output matrices split by heads."""
    bias = Layout(lambda b: b.reshape(num_heads, -1), lambda b: b.reshape(-1))
    qkv = Layout(
        lambda w: w.T.reshape(w.shape[1], 3, num_heads, -1), lambda k: k.reshape(k.shape[0], -1).T
    )
    out = Layout(lambda w: w.T.reshape(num_heads, -1, w.shape[0]), lambda k: k.reshape(-1, k.shape[-1]).T)
    return bias, qkv, out


def _patch(patch_size):
    return Layout(
        lambda w: w.transpose(2, 3, 1, 0).reshape(-1, w.shape[0]),
        lambda k: k.reshape(patch_size, patch_size, 3, -1).transpose(3, 2, 0, 1),
    )


def _bias_table(depth):
    return Layout(
        lambda t: t.reshape(len(t), depth, -1).transpose(1, 0, 2),
        lambda t: t.transpose(1, 0, 2).reshape(t.shape[1], -1),
    )


def _block_places(layer, num_lower, num_heads, layer_scale):
    upper = layer >= num_lower
    stack, number = ("upper", layer - num_lower) if upper else ("lower", layer)
    bias, qkv, out = _heads(num_heads)
    tensors = {
        "norm1.weight": (("norm", "scale"), SAME),
        "norm1.bias": (("norm", "bias"), SAME),
        "attn.qkv.weight": (("attention", "qkv"), qkv),
        "attn.q_bias": (("attention", "q_bias"), bias),
        "attn.v_bias": (("attention", "v_bias"), bias),
        "attn.proj.weight": (("attention", "out"), out),
        "attn.proj.bias": (("attention", "out_bias"), SAME),
    }
    if layer_scale:
        tensors["gamma_1"] = (("attention_scale",), SAME)
        tensors["gamma_2"] = (("expert_scale",), SAME)
    prefix, root = f"transformer.blocks.{layer}.", ("transformer", stack)
    for name, (path, layout) in tensors.items():
        yield prefix + name, Place((*root, *path), (number,), layout)
    for expert, suffix in EXPERT_SUFFIX.items():
        if expert == "vision_language" and not upper:
            continue
        parts = {
            f"norm2_{suffix}.weight": ("norm", "scale", SAME),
            f"norm2_{suffix}.bias": ("norm", "bias", SAME),
            f"mlp_{suffix}.fc1.weight": ("up", "kernel", LINEAR),
            f"mlp_{suffix}.fc1.bias": ("up", "bias", SAME),
            f"mlp_{suffix}.fc2.weight": ("down", "kernel", LINEAR),
            f"mlp_{suffix}.fc2.bias": ("down", "bias", SAME),
        }
        for name, (module, leaf, layout) in parts.items():
            yield prefix + name, Place((*root, "experts", "stacked", module, leaf), (number, EXPERTS[expert]), layout)


def official_places(*, depth, num_upper, num_heads, patch_size, position, layer_scale):
    """Every official tensor of a stage-3 model and its place in ours.

    Args:
      depth, num_upper, num_heads, patch_size: sizes.
      position: "relative" or "absolute".
      layer_scale: whether blocks have gammas.

    Returns:
      dict official name -> Place.
    """
    dense = lambda name, path: [
        (f"{name}.weight", Place((*path, "kernel"), (), LINEAR)),
        (f"{name}.bias", Place((*path, "bias"), (), SAME)),
    ]
    norm = lambda name, path: [
        (f"{name}.weight", Place((*path, "scale"), (), SAME)),
        (f"{name}.bias", Place((*path, "bias"), (), SAME)),
    ]
    places = [
        ("transformer.cls_token", Place(("image_embedding", "class_token"), (), ROW)),
        ("transformer.patch_embed.proj.weight", Place(("image_embedding", "patch"), (), _patch(patch_size))),
        ("transformer.patch_embed.proj.bias", Place(("image_embedding", "patch_bias"), (), SAME)),
        ("text_embeddings.word_embeddings.weight", Place(("text_embedding", "word"), (), SAME)),
        ("text_embeddings.token_type_embeddings.weight", Place(("text_embedding", "segment"), (), SAME)),
        *norm("text_embeddings.LayerNorm", ("text_embedding", "norm")),
        ("token_type_embeddings.weight", Place(("modality_type",), (), SAME)),
        *norm("transformer.norm", ("transformer", "norm")),
        *dense("pooler.dense", ("pooler", "dense")),
        *dense("itm_score.fc", ("itm_head",)),
        *dense("mlm_score.transform.dense", ("mlm_head", "dense")),
        *norm("mlm_score.transform.LayerNorm", ("mlm_head", "norm")),
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


def fill_places(tensors, places):
    """Puts official tensors (a whole set, or gradients of one) in our layout and stacks layers and experts."""
    stacks = {}
    for name, tensor in tensors.items():
        place = places[name]
        stacks.setdefault(place.path, {})[place.index] = place.layout.to_ours(tensor)
    flat = {}
    for path, parts in stacks.items():
        shape = tuple(max(index[axis] for index in parts) + 1 for axis in range(len(next(iter(parts)))))
        stacked = np.empty(shape + next(iter(parts.values())).shape, next(iter(parts.values())).dtype)
        for index, part in parts.items():
            stacked[index] = part
        flat[path] = stacked
    return nnx.traversals.unflatten_mapping(flat)


def to_official(params, places, unread=()):
    """Converts our parameters to an official state dict of numpy arrays.

    Args:
      params: pure nested dict.
      places: of `official_places`.
      unread: mapping of tensors kept aside by `from_official`.

    Raises:
      ValueError: a parameter of ours has no official name.
    """
    flat = {tuple(map(str, path)): value for path, value in nnx.traversals.flatten_mapping(params).items()}
    homeless = sorted("/".join(path) for path in set(flat) - {place.path for place in places.values()})
    if homeless:
        raise ValueError(f"no official name for {homeless}")
    named = {
        name: np.asarray(place.layout.to_official(np.asarray(flat[place.path])[place.index]), order="C")
        for name, place in places.items()
    }
    return {**named, **dict(unread)}
