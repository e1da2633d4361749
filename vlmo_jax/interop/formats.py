"""The checkpoint formats that conversion knows: from their tensors to parameters with a config, and
back.

Each format is a pair of functions. `read` takes the tensors of a file and gives a Converted;
`write` takes parameters and the meta of a checkpoint of ours and gives the tensors of a file.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vlmo_jax.checkpoints.earlier import upgrade_config
from vlmo_jax.interop import (
    albef,
    beit,
    beit_classifier,
    beit_segmenter,
    clip,
    clip_hints,
    dalle,
    vilbert,
    vilt,
    vlmo,
    vse_infinity,
)
from vlmo_jax.interop.converted import (
    CENTRED,
    RUNTIME,
    UNCHANGED,
    Converted,
    Tensors,
    extra_of,
    preprocessing,
    refuse_hints,
)
from vlmo_jax.interop.huggingface_beit import is_huggingface
from vlmo_jax.interop.places import Place, wrong_shapes
from vlmo_jax.interop.recipe_configs import whole_config
from vlmo_jax.interop.vlmo_sizes import TEXT_POSITIONS, find_sizes
from vlmo_jax.models.build import abstract_params, model_maker

DALLE_IMAGE_SIZE = 112  # pixels a side that stage 1 shows it, where nothing else is said


def _vlmo_places(model: Mapping[str, Any]) -> dict[str, Place]:
    names = ("depth", "num_upper", "num_heads", "patch_size", "position", "experts", "heads")
    sizes = {name: model[name] for name in names if name in model}
    return vlmo.official_places(**sizes, layer_scale=bool(model["layer_scale"]))


def read_vlmo(tensors: Tensors, *, activation: None = None, **hints: int | None) -> Converted:
    """Reads an official VLMo of any stage or task.

    Args:
        tensors: official name -> array.
        activation: a hint that is of no use here.
        hints: those of `vlmo_sizes.find_sizes`.
    """
    refuse_hints("vlmo", {"activation": activation})
    sizes = find_sizes(tensors, **hints)
    model = {"kind": "vlmo", **RUNTIME, **sizes}
    places = _vlmo_places(model)
    present = {name: place for name, place in places.items() if name in tensors}
    if wrong := wrong_shapes(tensors, present, abstract_params(model_maker(model))):
        raise ValueError(
            f"not a VLMo of width {sizes['width']}, depth {sizes['depth']}: {'; '.join(wrong[:5])}"
        )
    params, aside = vlmo.from_official(tensors, places, sizes["position"])
    recipe = "stage3:base" if "vision_language" in sizes["experts"] else "stage2:base"
    config = whole_config(recipe, model, **CENTRED)
    return Converted(params, config, preprocessing(sizes["image_size"], CENTRED), aside, {})


def write_vlmo(params: Any, meta: Mapping[str, Any], aside: Tensors) -> dict[str, np.ndarray]:
    """Writes an official VLMo.

    What the official code owns without reading it is zero unless it was kept aside.

    Args:
        params: our parameters as a pure nested dict.
        meta: of their checkpoint.
        aside: tensors to add, by official name.
    """
    model = upgrade_config(meta["config"])["model"]
    if model.get("kind") != "vlmo":
        raise ValueError(f"config.model.kind={model.get('kind')!r} is no VLMo")
    places, width = _vlmo_places(model), model["width"]
    unread = {"pooler.dense.weight": (width, width), "pooler.dense.bias": (width,)}
    if model["position"] == "relative":
        unread = {TEXT_POSITIONS: (model["text_length"], width), **unread}
    zeros = {
        name: np.zeros(shape, np.float32) for name, shape in unread.items() if name not in places
    }
    return {**zeros, **vlmo.to_official(params, places), **aside}


def read_beit(
    tensors: Tensors,
    *,
    num_heads: int | None = None,
    num_upper: int | None = None,
    **others: int | None,
) -> Converted:
    """Reads a BEiT in official or in HuggingFace's names.

    Args:
        tensors: name -> array.
        num_heads: H, or None.
        num_upper: blocks in the stack `upper`, or None.
        others: hints that are of no use here, all None.
    """
    refuse_hints("beit", others)
    params, sizes, aside = beit.from_beit(tensors, num_heads=num_heads, num_upper=num_upper)
    model = {"kind": "beit", **RUNTIME, **sizes.model_fields()}
    # With the size of its images, by which the recipe hides patches.
    config = whole_config(f"stage1:base,{sizes.image_size}", model, **CENTRED)
    extra = {"huggingface": is_huggingface(tensors), "sizes": sizes._asdict()}
    return Converted(params, config, preprocessing(sizes.image_size, CENTRED), aside, extra)


def write_beit(params: Any, meta: Mapping[str, Any], aside: Tensors) -> dict[str, np.ndarray]:
    """Writes a converted BEiT back, in the names it came in; arguments as of `write_vlmo`."""
    extra = extra_of("beit", meta)
    return beit.to_beit(
        params, beit.BeitSizes(**extra["sizes"]), aside, huggingface=extra["huggingface"]
    )


def read_dalle(
    tensors: Tensors, *, image_size: int | None = None, **others: int | None
) -> Converted:
    """Reads DALL-E's discrete VAE, encoder or both parts.

    Args:
        tensors: name -> array.
        image_size: pixels a side, or None.
        others: hints that are of no use here, all None.
    """
    refuse_hints("dalle", others)
    sizes, params = dalle.from_dalle(tensors)
    image_size = image_size or DALLE_IMAGE_SIZE
    model = {"kind": "discrete_vae", **sizes, "image_size": image_size, "dtype": "auto"}
    config = whole_config("tokenizer:dalle", model)
    extra = {"sizes": sizes, "plain": all(name.startswith("blocks.") for name in tensors)}
    return Converted(params, config, preprocessing(image_size, UNCHANGED), {}, extra)


def write_dalle(params: Any, meta: Mapping[str, Any], aside: Tensors) -> dict[str, np.ndarray]:
    """Writes a converted discrete VAE back, in the names it came in; arguments as of
    `write_vlmo`.
    """
    extra = extra_of("dalle", meta)
    tensors = dalle.to_dalle(params, extra["sizes"])
    if not extra["plain"]:
        return tensors
    return {name.removeprefix("encoder."): tensor for name, tensor in tensors.items()}


class Format(NamedTuple):
    """How tensors are read and written.

    Attributes:
        read: tensors and hints, by name, to a Converted.
        write: parameters, the meta of their checkpoint and what was kept aside to tensors.
        hints_beside: hints that files beside the tensors give, by a path of these.
        tokenizer: name of the one that all published models have, kept where no other is given.
    """

    read: Callable[..., Converted]
    write: Callable[[Any, Mapping[str, Any], Tensors], dict[str, np.ndarray]]
    hints_beside: Callable[[pathlib.Path], dict[str, Any]] = lambda source: {}
    tokenizer: str = ""


FORMATS = {
    "vlmo": Format(read_vlmo, write_vlmo),
    "beit": Format(read_beit, write_beit),
    # One reader for all names; each spelling has its writer.
    "beit_classifier": Format(
        beit_classifier.read_beit_classifier,
        beit_classifier.write_beit_classifier,
        beit_classifier.hints_beside,
    ),
    "beit_classifier_hf": Format(
        beit_classifier.read_beit_classifier,
        beit_classifier.write_beit_classifier_hf,
        beit_classifier.hints_beside,
    ),
    "beit_segmenter": Format(
        beit_segmenter.read_beit_segmenter, beit_segmenter.write_beit_segmenter
    ),
    "beit_segmenter_hf": Format(
        beit_segmenter.read_beit_segmenter, beit_segmenter.write_beit_segmenter_hf
    ),
    "dalle": Format(read_dalle, write_dalle),
    "vilbert": Format(vilbert.read_vilbert, vilbert.write_vilbert),
    "albef": Format(albef.read_albef, albef.write_albef),
    # One reader for all names; each spelling has its writer.
    "clip": Format(clip.read_clip, clip.write_clip, clip_hints.hints_beside, "clip"),
    "clip_hf": Format(clip.read_clip, clip.write_clip_hf, clip_hints.hints_beside, "clip"),
    "vse_infinity": Format(vse_infinity.read_vse_infinity, vse_infinity.write_vse_infinity),
    "vilt": Format(vilt.read_vilt, vilt.write_vilt),
}
