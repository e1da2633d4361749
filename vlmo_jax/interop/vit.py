"""Names of timm's ViT, whose query, key and value have one bias together where ours have three."""

import functools
import re
from collections.abc import Callable, Iterator

import numpy as np

from vlmo_jax.interop.converted import Tensors
from vlmo_jax.interop.made_tensors import MadeTensors
from vlmo_jax.interop.places import LINEAR, SAME, Layout, NamedPlace, ParamPath, Place, norm_places

_JOINT = re.compile(r"(.*blocks\.\d+\.attn\.)qkv\.bias")
_PART = re.compile(r"(.*blocks\.\d+\.attn\.)([qkv])_bias")


def vit_block_places(
    prefix: str, root: ParamPath, number: int, num_heads: int
) -> Iterator[NamedPlace]:
    """(name, Place) of a block of timm's ViT, after `split_biases`, in a stack of PreNormBlocks.

    Args:
        prefix: of the names, such as "visual_encoder.blocks.3.".
        root: path of the stacked blocks.
        number: of the block.
        num_heads: H.
    """
    at, attention = (number,), (*root, "attention")
    qkv = Layout(
        lambda w: w.T.reshape(w.shape[1], 3, num_heads, -1), lambda k: k.reshape(k.shape[0], -1).T
    )
    out = Layout(
        lambda w: w.T.reshape(num_heads, -1, w.shape[0]), lambda k: k.reshape(-1, k.shape[-1]).T
    )
    yield from norm_places(f"{prefix}norm1", (*root, "norm"), at)
    yield f"{prefix}attn.qkv.weight", Place((*attention, "qkv"), at, qkv)
    bias = Layout(lambda b: b.reshape(num_heads, -1), lambda b: b.reshape(-1))
    for part in "qkv":
        yield f"{prefix}attn.{part}_bias", Place((*attention, f"{part}_bias"), at, bias)
    yield f"{prefix}attn.proj.weight", Place((*attention, "out"), at, out)
    yield f"{prefix}attn.proj.bias", Place((*attention, "out_bias"), at, SAME)
    yield from norm_places(f"{prefix}norm2", (*root, "feed_forward", "norm"), at)
    for name, ours in (("fc1", "up"), ("fc2", "down")):
        path = (*root, "feed_forward", ours)
        yield f"{prefix}mlp.{name}.weight", Place((*path, "kernel"), at, LINEAR)
        yield f"{prefix}mlp.{name}.bias", Place((*path, "bias"), at, SAME)


def split_biases(tensors: Tensors) -> Tensors:
    """Tensors by official name in which the bias of query, key and value stands as three."""
    made: dict[str, Callable[[], np.ndarray]] = {}
    for name in tensors:
        if joint := _JOINT.fullmatch(name):
            for number, part in enumerate("qkv"):
                made[f"{joint[1]}{part}_bias"] = functools.partial(_third, tensors, name, number)
        else:
            made[name] = functools.partial(tensors.__getitem__, name)
    return MadeTensors(made)


def join_biases(tensors: Tensors) -> dict[str, np.ndarray]:
    """The inverse of `split_biases`."""
    joined: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        part = _PART.fullmatch(name)
        if not part:
            joined[name] = tensor
        elif part[2] == "q":
            parts = [tensors[f"{part[1]}{letter}_bias"] for letter in "qkv"]
            joined[f"{part[1]}qkv.bias"] = np.concatenate(parts)
    return joined


def _third(tensors: Tensors, name: str, number: int) -> np.ndarray:
    tensor = tensors[name]
    if tensor.ndim != 1 or len(tensor) % 3:
        raise ValueError(f"{name}: shape {tensor.shape} is not that of three biases")
    return np.split(tensor, 3)[number]
