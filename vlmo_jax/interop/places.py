"""Places: where the tensors of somebody else's checkpoint live in our parameters, and in which
layout.

A table of places pairs names with (path in our tree, index on the stacked axes, layout). It is
complete: a tensor without a place, or a place without a tensor, is an error of whoever made it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.interop.float32_tensors import as_float32

ParamPath = tuple[str, ...]
ALIGNED = 64  # bytes: so JAX on the host takes an array over as it is, without a copy


class Layout(NamedTuple):
    """A pair of functions on one numpy tensor: official -> ours and back."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_official: Callable[[np.ndarray], np.ndarray]


class Place(NamedTuple):
    """Where an official tensor lives in our parameters.

    Attributes:
        path: of the array in our tree.
        at: index on the array's first axes: (), (layer,) or (layer, expert); None stands for an
            axis of the tensor's own, as in (layer, None, 0) of stacked [layers, D, 3, H, K].
        layout: how the tensor lies there.
    """

    path: ParamPath
    at: tuple[int | None, ...]
    layout: Layout


NamedPlace = tuple[str, Place]

SAME = Layout(lambda x: x, lambda x: x)
LINEAR = Layout(lambda w: w.T, lambda k: k.T)
ROW = Layout(lambda x: x.reshape(-1), lambda x: x[None, None])
ROWS = Layout(lambda x: x[0], lambda x: x[None])


def patch_layout(patch_size: int) -> Layout:
    """The layout of a convolution [D, 3, p, p] that projects patches."""
    return Layout(
        lambda w: w.transpose(2, 3, 1, 0).reshape(-1, w.shape[0]),
        lambda k: k.reshape(patch_size, patch_size, 3, -1).transpose(3, 2, 0, 1),
    )


def dense_places(name: str, path: ParamPath) -> list[NamedPlace]:
    """(name, Place) of the weight and the bias of a Linear."""
    return [
        (f"{name}.weight", Place((*path, "kernel"), (), LINEAR)),
        (f"{name}.bias", Place((*path, "bias"), (), SAME)),
    ]


def norm_places(name: str, path: ParamPath, at: tuple[int, ...] = ()) -> list[NamedPlace]:
    """(name, Place) of the weight and the bias of a LayerNorm."""
    return [
        (f"{name}.weight", Place((*path, "scale"), at, SAME)),
        (f"{name}.bias", Place((*path, "bias"), at, SAME)),
    ]


def attention_places(
    prefix: str, root: ParamPath, number: int, *, num_heads: int, layer_scale: bool
) -> Iterator[NamedPlace]:
    """(name, Place) of what the experts of a BEiT or VLMo block share: norm1, attention, gammas.

    Args:
        prefix: of the names, such as "blocks.3.".
        root: path of the stack of blocks.
        number: of the block in its stack.
        num_heads: H.
        layer_scale: whether blocks have gammas.
    """
    bias = Layout(lambda b: b.reshape(num_heads, -1), lambda b: b.reshape(-1))
    qkv = Layout(
        lambda w: w.T.reshape(w.shape[1], 3, num_heads, -1), lambda k: k.reshape(k.shape[0], -1).T
    )
    out = Layout(
        lambda w: w.T.reshape(num_heads, -1, w.shape[0]), lambda k: k.reshape(-1, k.shape[-1]).T
    )
    tensors: dict[str, tuple[ParamPath, Layout]] = {
        "attn.qkv.weight": (("attention", "qkv"), qkv),
        "attn.q_bias": (("attention", "q_bias"), bias),
        "attn.v_bias": (("attention", "v_bias"), bias),
        "attn.proj.weight": (("attention", "out"), out),
        "attn.proj.bias": (("attention", "out_bias"), SAME),
    }
    if layer_scale:
        tensors["gamma_1"] = (("attention_scale",), SAME)
        tensors["gamma_2"] = (("expert_scale",), SAME)
    yield from norm_places(prefix + "norm1", (*root, "norm"), (number,))
    for name, (path, layout) in tensors.items():
        yield prefix + name, Place((*root, *path), (number,), layout)


def expert_places(
    prefix: str, suffix: str, root: ParamPath, number: int, expert: int
) -> Iterator[NamedPlace]:
    """(name, Place) of one expert of a block with its norm.

    Args:
        prefix, root, number: as in `attention_places`.
        suffix: of "norm2" and "mlp", such as "_imag".
        expert: its number on the stacked axis.
    """
    experts, at = (*root, "experts", "stacked"), (number, expert)
    yield from norm_places(f"{prefix}norm2{suffix}", (*experts, "norm"), at)
    for fc, module in (("fc1", "up"), ("fc2", "down")):
        name = f"{prefix}mlp{suffix}.{fc}"
        yield f"{name}.weight", Place((*experts, module, "kernel"), at, LINEAR)
        yield f"{name}.bias", Place((*experts, module, "bias"), at, SAME)


def check_ranks(model: str, tensors: Mapping[str, Any], ranks: Mapping[str, int]) -> None:
    """Refuses tensors with another number of axes than they should have, and empty ones.

    Args:
        model: name of the model they are to be of, for the message.
        tensors: name -> anything with a shape.
        ranks: name -> number of axes; names that are not among the tensors pass.

    Raises:
        ValueError: names the tensor and its shape.
    """
    for name, rank in ranks.items():
        shape = tuple(tensors[name].shape) if name in tensors else (1,) * rank
        if len(shape) != rank or 0 in shape:
            raise ValueError(
                f"this is no {model}: {name} has shape {shape}, which should have {rank} axes"
                " that are not empty"
            )


def named(names: list[str]) -> str:
    """Names for a message: the first ones, and how many more there are; "none" without any."""
    more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
    return f"{names[:20]}{more}" if names else "none"


def check_depth(tensors: Mapping[str, Any], last: int) -> None:
    """Refuses numbers of layers that so few tensors cannot have.

    Args:
        tensors: name -> anything.
        last: the largest number of a layer in the names.

    Raises:
        ValueError: there would be more layers than tensors.
    """
    if last >= len(tensors):
        raise ValueError(f"{len(tensors)} tensors are not those of a model with a layer {last}")


def check_upper(num_upper: int | None, depth: int) -> None:
    """Refuses more upper blocks than there are blocks.

    Raises:
        ValueError: names the flag, and what is allowed.
    """
    if num_upper is not None and not 0 < num_upper <= depth:
        raise ValueError(
            f"--num_upper={num_upper}: this model has {depth} blocks; give 1 to {depth}"
        )


def wrong_shapes(tensors: Mapping[str, Any], places: Mapping[str, Place], params: Any) -> list[str]:
    """Names the tensors whose shapes do not fit.

    Args:
        tensors: name -> array, for all of `places`.
        places: name -> Place.
        params: our parameters, or abstract ones: a pure nested dict of anything with a shape.

    Returns:
        A list of "name: shape found, shape expected" in words; empty where all fit.
    """
    shapes = {path: leaf.shape for path, leaf in flatten(params).items()}
    wrong = []
    for name, place in places.items():
        ours = np.broadcast_to(np.int8(0), shapes[place.path])[_index(place.at)]
        expected, found = place.layout.to_official(ours).shape, tuple(tensors[name].shape)
        if found != expected:
            wrong.append(f"{name}: shape {found}, not {expected}")
    return wrong


def fill_places(tensors: Mapping[str, np.ndarray], places: Mapping[str, Place]) -> dict:
    """Puts official tensors in our layout and stacks layers and experts.

    Args:
        tensors: mapping name -> numpy array: a whole set, or gradients of one. Its values are asked
            for one at a time, so it may read them from a file.
        places: name -> Place.

    Returns:
        A pure nested dict of numpy arrays.

    Raises:
        ValueError: a whole number is too large for float32.
    """
    sizes = _stacked_sizes(places.values())
    flat: dict[ParamPath, np.ndarray] = {}
    for name, (path, at, layout) in places.items():
        if name in tensors:
            part = layout.to_ours(_as_float(name, np.asarray(tensors[name])))
            if path not in flat:
                flat[path] = _aligned(_whole_shape(sizes[path], part.shape), part.dtype)
            flat[path][_index(at)] = part
    return nnx.traversals.unflatten_mapping(flat)


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array without values that begins at a multiple of ALIGNED bytes."""
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    return room[start : start + size].view(dtype).reshape(shape)


def _as_float(name: str, tensor: np.ndarray) -> np.ndarray:
    """Whole numbers as float32, where that keeps them; floats as they are."""
    return as_float32(name, tensor) if tensor.dtype.kind in "iub" else tensor


def _index(at: tuple[int | None, ...]) -> tuple[int | slice, ...]:
    return tuple(slice(None) if number is None else number for number in at)


def _stacked_sizes(places: Iterable[Place]) -> dict[ParamPath, tuple[int, ...]]:
    """How many layers, and experts, the array at each path holds; 0 for a tensor's own axes."""
    sizes: dict[ParamPath, tuple[int, ...]] = {}
    for place in places:
        size = tuple(0 if number is None else number + 1 for number in place.at)
        sizes[place.path] = tuple(map(max, sizes.get(place.path, size), size))
    return sizes


def _whole_shape(sizes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an array that holds tensors of a shape on axes of these sizes."""
    own = iter(shape)
    return (*(size or next(own) for size in sizes), *own)


def empty_places(params: Any, places: Mapping[str, Place]) -> dict[str, np.ndarray]:
    """The inverse of `fill_places`: a dict name -> numpy array, as far as possible a view of ours.

    Raises:
        ValueError: a parameter of ours has no official name.
    """
    flat = flatten(params)
    housed = {place.path for place in places.values()}
    homeless = sorted("/".join(path) for path in flat if path not in housed)
    if homeless:
        raise ValueError(f"no official name for {homeless}")
    return {
        name: place.layout.to_official(np.asarray(flat[place.path])[_index(place.at)])
        for name, place in places.items()
    }
