"""Names and layouts of the tensors of DALL-E's discrete VAE, both ways.

The official files hold one part each: encoder and decoder, both with names that begin with
`blocks.`. Here a whole model has them as `encoder.blocks...` and `decoder.blocks...`; names without
a part are the encoder's, which stage 1 needs alone.
"""

import re

import jax
import numpy as np
from flax import nnx

from vlmo_jax.interop.places import SAME, Layout, Place, empty_places, fill_places, wrong_shapes
from vlmo_jax.models.dvae import DiscreteVAE

CONV = Layout(lambda w: w.transpose(2, 3, 1, 0), lambda k: k.transpose(3, 2, 0, 1))


def _conv_places(name, path):
    return {
        f"{name}.w": Place((*path, "kernel"), (), CONV),
        f"{name}.b": Place((*path, "bias"), (), SAME),
    }


def dalle_places(part, *, num_groups, blocks_per_group, has_path):
    """Every official tensor of a part and its place in ours.

    Args:
        part: "encoder" or "decoder".
        num_groups, blocks_per_group: sizes.
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
            for conv in range(1, 5):
                places.update(
                    _conv_places(
                        f"{name}.res_path.conv_{conv}", (*path, "residual", f"conv_{conv}")
                    )
                )
    return places


def model_places(sizes):
    """The places of a whole model.

    Args:
        sizes: mapping with the arguments of DiscreteVAE, `num_init` given where there is a decoder.
    """
    groups = {name: sizes[name] for name in ("num_groups", "blocks_per_group")}
    places = dalle_places(
        "encoder", **groups, has_path=lambda group, block: group > 1 and block == 1
    )
    if sizes["decoder"]:
        widest = sizes["num_hidden"] * 2 ** (sizes["num_groups"] - 1)
        has_path = lambda group, block: block == 1 and (group > 1 or sizes["num_init"] != widest)
        places.update(dalle_places("decoder", **groups, has_path=has_path))
    return places


def dalle_sizes(tensors):
    """Finds the sizes of a model in the shapes of its tensors.

    Args:
        tensors: mapping official name, with its part -> array.

    Returns:
        The arguments of DiscreteVAE as a dict.

    Raises:
        ValueError: there is no encoder, or a tensor that tells a size is missing.
    """

    def shape(name):
        if name not in tensors or len(tensors[name].shape) != 4:
            raise ValueError(
                f"not DALL-E's discrete VAE: tensor {name} is missing or has not four axes"
            )
        return tuple(tensors[name].shape)

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
    decoder = any(name.startswith("decoder.") for name in tensors)
    return {
        "vocab_size": shape("encoder.blocks.output.conv.w")[0],
        "num_hidden": num_hidden,
        "num_groups": max(group for group, _ in numbers),
        "blocks_per_group": max(block for _, block in numbers),
        "num_init": shape("decoder.blocks.input.w")[0] if decoder else 0,
        "decoder": decoder,
    }


def from_dalle(tensors):
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
            f"not DALL-E's discrete VAE of sizes {sizes}: missing {missing or 'none'}; unexpected"
            f" {unexpected or 'none'}"
        )
    tensors = {name: np.asarray(tensors[name]) for name in places}
    with nnx.use_eager_sharding(False):
        abstract = jax.eval_shape(
            lambda: nnx.to_pure_dict(nnx.state(DiscreteVAE(**sizes, rngs=nnx.Rngs(0))))
        )
    wrong = wrong_shapes(tensors, places, abstract)
    if wrong:
        raise ValueError(
            f"tensors that do not fit DALL-E's discrete VAE of sizes {sizes}: {'; '.join(wrong)}"
        )
    return sizes, fill_places(tensors, places)


def to_dalle(params, sizes):
    """Converts our parameters, or anything of their shapes, to official tensors: a dict name with
    its part -> numpy array.

    Args:
        params: pure nested dict.
        sizes: the arguments of DiscreteVAE, as `from_dalle` gives them.

    Raises:
        ValueError: a parameter of ours has no official name.
    """
    return empty_places(params, model_places(sizes))
