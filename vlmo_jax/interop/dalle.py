"""Names and layouts of the tensors of DALL-E's discrete VAE, both ways.

The official files hold one part each: encoder and decoder, both with names that begin with
`blocks.`. Here a whole model has them as `encoder.blocks...` and `decoder.blocks...`; names without
a part are the encoder's, which stage 1 needs alone.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vlmo_jax.interop.places import (
    SAME,
    Layout,
    ParamPath,
    Place,
    empty_places,
    fill_places,
    named,
    wrong_shapes,
)
from vlmo_jax.models.build import abstract_params, model_maker

CONV = Layout(lambda w: w.transpose(2, 3, 1, 0), lambda k: k.transpose(3, 2, 0, 1))


def _conv_places(name: str, path: ParamPath) -> dict[str, Place]:
    return {
        f"{name}.w": Place((*path, "kernel"), (), CONV),
        f"{name}.b": Place((*path, "bias"), (), SAME),
    }


def dalle_places(
    part: str, *, num_groups: int, blocks_per_group: int, has_path: Callable[[int, int], bool]
) -> dict[str, Place]:
    """Every official tensor of a part and its place in ours.

    Args:
        part: "encoder" or "decoder".
        num_groups: groups of blocks.
        blocks_per_group: blocks in each.
        has_path: function of (group, block), counted from 1: whether that block changes the width
            and so has an `id_path`.

    Returns:
        dict official name, such as `encoder.blocks.group_1.block_1.res_path.conv_1.w` -> Place.
    """
    places = {
        **_conv_places(f"{part}.blocks.input", (part, "input")),
        **_conv_places(f"{part}.blocks.output.conv", (part, "output")),
    }
    for group in range(1, num_groups + 1):
        for block in range(1, blocks_per_group + 1):
            name = f"{part}.blocks.group_{group}.block_{block}"
            path = (part, "blocks", "groups", f"group_{group}", f"block_{block}")
            if has_path(group, block):
                places.update(_conv_places(f"{name}.id_path", (*path, "path")))
            for conv in ("conv_1", "conv_2", "conv_3", "conv_4"):
                places.update(_conv_places(f"{name}.res_path.{conv}", (*path, "residual", conv)))
    return places


def model_places(sizes: Mapping[str, Any]) -> dict[str, Place]:
    """The places of a whole model.

    Args:
        sizes: mapping with the arguments of DiscreteVAE, `num_init` given where there is a decoder.
    """
    groups = {name: sizes[name] for name in ("num_groups", "blocks_per_group")}
    widest = sizes["num_hidden"] * 2 ** (sizes["num_groups"] - 1)

    def encoder_has_path(group: int, block: int) -> bool:
        return block == 1 and group > 1

    def decoder_has_path(group: int, block: int) -> bool:
        return block == 1 and (group > 1 or sizes["num_init"] != widest)

    places = dalle_places("encoder", **groups, has_path=encoder_has_path)
    if sizes["decoder"]:
        places.update(dalle_places("decoder", **groups, has_path=decoder_has_path))
    return places


def dalle_sizes(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Finds the sizes of a model in the shapes of its tensors.

    Args:
        tensors: mapping official name, with its part -> array.

    Returns:
        The arguments of DiscreteVAE as a dict.

    Raises:
        ValueError: there is no encoder, or a tensor that tells a size is missing.
    """

    def shape(name: str) -> tuple[int, ...]:
        found = tuple(tensors[name].shape) if name in tensors else ()
        if len(found) != 4 or 0 in found:
            raise ValueError(
                f"not DALL-E's discrete VAE: tensor {name} is missing or has not four axes"
            )
        return found

    num_hidden, channels = shape("encoder.blocks.input.w")[:2]
    if channels != 3:
        raise ValueError(
            f"encoder.blocks.input.w reads {channels} channels, not the 3 of an image: this looks"
            " like a decoder; give the encoder, or both with names that begin with encoder. and"
            " decoder."
        )
    blocks = [re.match(r"encoder\.blocks\.group_(\d+)\.block_(\d+)\.", name) for name in tensors]
    numbers = [(int(match[1]), int(match[2])) for match in blocks if match]
    if not numbers:
        raise ValueError(
            "not DALL-E's discrete VAE: no tensor is named encoder.blocks.group_1.block_1..."
        )
    if max(max(number) for number in numbers) > len(tensors):
        raise ValueError(
            f"not DALL-E's discrete VAE: {len(tensors)} tensors are not those of group and block"
            f" {max(numbers)}"
        )
    decoder = any(name.startswith("decoder.") for name in tensors)
    return {
        "vocab_size": shape("encoder.blocks.output.conv.w")[0],
        "num_hidden": num_hidden,
        "num_groups": max(group for group, _ in numbers),
        "blocks_per_group": max(block for _, block in numbers),
        "num_init": shape("decoder.blocks.input.w")[0] if decoder else 0,
        "decoder": decoder,
    }


def from_dalle(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], dict]:
    """Converts official tensors to our parameters.

    Args:
        tensors: mapping official name -> array; names begin with `encoder.` or `decoder.`, or all
            with `blocks.` (an encoder).

    Returns:
        The arguments of DiscreteVAE, and its parameters as a pure nested dict of numpy arrays.

    Raises:
        ValueError: names missing and unexpected tensors, and those of another shape than the others
            imply.
    """
    if all(name.startswith("blocks.") for name in tensors):
        tensors = {f"encoder.{name}": value for name, value in tensors.items()}
    sizes = dalle_sizes(tensors)
    places = model_places(sizes)
    missing, unexpected = sorted(set(places) - set(tensors)), sorted(set(tensors) - set(places))
    if missing or unexpected:
        raise ValueError(
            f"not DALL-E's discrete VAE of sizes {sizes}: missing {named(missing)}; unexpected"
            f" {named(unexpected)}"
        )
    tensors = {name: np.asarray(tensors[name]) for name in places}
    model = abstract_params(model_maker({"kind": "discrete_vae", **sizes}))
    if wrong := wrong_shapes(tensors, places, model):
        raise ValueError(
            f"tensors that do not fit DALL-E's discrete VAE of sizes {sizes}:"
            f" {'; '.join(wrong[:5])}"
        )
    return sizes, fill_places(tensors, places)


def to_dalle(params: Any, sizes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts our parameters, or anything of their shapes, to official tensors: a dict name with
    its part -> numpy array.

    Args:
        params: pure nested dict.
        sizes: the arguments of DiscreteVAE, as `from_dalle` gives them.

    Raises:
        ValueError: a parameter of ours has no official name.
    """
    return empty_places(params, model_places(sizes))
