"""Names and layouts of ViLT checkpoints, both ways: those of the official code and of HuggingFace.

The table of places is in the official names; HuggingFace's are translated to them first. The
official file is a Lightning checkpoint, whose "state_dict" is read and nothing else of it.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vlmo_jax.interop.converted import CENTRED, Converted, Tensors, refuse_hints
from vlmo_jax.interop.huggingface_vilt import from_huggingface, is_huggingface, to_huggingface
from vlmo_jax.interop.places import (
    LINEAR,
    ROW,
    ROWS,
    SAME,
    NamedPlace,
    Place,
    check_depth,
    check_ranks,
    dense_places,
    empty_places,
    fill_places,
    named,
    norm_places,
    patch_layout,
    wrong_shapes,
)
from vlmo_jax.interop.recipe_configs import whole_config
from vlmo_jax.interop.vit import join_biases, split_biases, vit_block_places
from vlmo_jax.models.build import abstract_params, model_maker
from vlmo_jax.models.vilt_fields import HEADS

# Width of an attention head in every published ViLT, whose files do not tell.
HEAD_WIDTH = 64
# Fields of `config.model` that no checkpoint of others tells.
RUNTIME = dict(
    sampled_patches=0,
    dropout_rate=0.0,
    init_std=0.02,
    dtype="auto",
    remat="none",
    scan_layers=True,
)
LONGEST = 1333 / 800  # longer side by shorter side, at most
# Owned by official models and told by the rest, or read by none of their forward passes.
BUFFERS = r"text_embeddings\.(position_ids|token_type_ids)"
WORDS, TEXT_POSITIONS = (
    f"text_embeddings.{name}_embeddings.weight" for name in ("word", "position")
)
PATCH, POSITIONS = "transformer.patch_embed.proj.weight", "transformer.pos_embed"
FIRST, ANSWERS = "transformer.blocks.0.mlp.fc1.weight", "vqa_classifier.3.weight"
TYPES = "token_type_embeddings.weight"


def _classifier_places(task: str) -> Iterator[NamedPlace]:
    name, head = f"{task}_classifier", f"{task}_head"
    yield from dense_places(f"{name}.0", (head, "dense"))
    yield from norm_places(f"{name}.1", (head, "norm"))
    yield from dense_places(f"{name}.3", (head, "out"))


# The official tensors of each module that ViLT builds for some heads only.
MODULES: dict[str, dict[str, Place]] = {
    "pooler": dict(dense_places("pooler.dense", ("pooler", "dense"))),
    "itm_head": dict(dense_places("itm_score.fc", ("itm_head",))),
    "rank_head": dict(dense_places("rank_output", ("rank_head",))),
    "mlm_head": {
        **dict(dense_places("mlm_score.transform.dense", ("mlm_head", "dense"))),
        **dict(norm_places("mlm_score.transform.LayerNorm", ("mlm_head", "norm"))),
        "mlm_score.decoder.weight": Place(("mlm_head", "decoder", "kernel"), (), LINEAR),
        "mlm_score.bias": Place(("mlm_head", "decoder", "bias"), (), SAME),
    },
    "vqa_head": dict(_classifier_places("vqa")),
    "nlvr2_head": dict(_classifier_places("nlvr2")),
}


def find_heads(names: Iterable[str]) -> tuple[str, ...]:
    """The heads of an official ViLT with tensors of these names."""
    names = set(names)
    owned = {module for module, places in MODULES.items() if names & set(places)}
    return tuple(head for head, modules in HEADS.items() if set(modules) - {"pooler"} <= owned)


def vilt_places(
    *, depth: int, num_heads: int, patch_size: int, heads: Iterable[str]
) -> dict[str, Place]:
    """Every official tensor of a ViLT, after `vit.split_biases`, and its place in ours.

    Args:
        depth, num_heads, patch_size, heads: of models.vilt.ViLT.
    """
    places = {
        "transformer.cls_token": Place(("image_embedding", "class_token"), (), ROW),
        POSITIONS: Place(("image_embedding", "position"), (), ROWS),
        PATCH: Place(("image_embedding", "patch"), (), patch_layout(patch_size)),
        "transformer.patch_embed.proj.bias": Place(("image_embedding", "patch_bias"), (), SAME),
        WORDS: Place(("text_embedding", "word"), (), SAME),
        TEXT_POSITIONS: Place(("text_embedding", "position"), (), SAME),
        "text_embeddings.token_type_embeddings.weight": Place(
            ("text_embedding", "segment"), (), SAME
        ),
        **dict(norm_places("text_embeddings.LayerNorm", ("text_embedding", "norm"))),
        TYPES: Place(("modality_type",), (), SAME),
        **dict(norm_places("transformer.norm", ("norm",))),
    }
    for layer in range(depth):
        prefix, root = f"transformer.blocks.{layer}.", ("transformer", "blocks")
        places.update(vit_block_places(prefix, root, layer, num_heads))
    for module in {module for head in heads for module in HEADS[head]}:
        places.update(MODULES[module])
    return places


def find_sizes(tensors: Mapping[str, Any], *, num_heads: int | None = None) -> dict[str, Any]:
    """Fields of `config.model` that the shapes of an official ViLT tell.

    Args:
        tensors: official name -> anything with a shape.
        num_heads: H; None: as wide as those of the published models.

    Raises:
        ValueError: a tensor that tells a size is missing or has another number of axes.
    """
    told = (WORDS, TEXT_POSITIONS, PATCH, POSITIONS, FIRST, TYPES)
    if missing := [name for name in told if name not in tensors]:
        vlmo = any(re.search(r"\.mlp_(imag|text)\.", name) for name in tensors)
        hint = "; it looks like a VLMo: use --from=vlmo" if vlmo else ""
        raise ValueError(f"this is no ViLT: missing {named(missing)}{hint}")
    ranks = {WORDS: 2, TEXT_POSITIONS: 2, PATCH: 4, POSITIONS: 3, FIRST: 2, TYPES: 2, ANSWERS: 2}
    check_ranks("ViLT", tensors, ranks)
    width, _, patch_size, _ = tensors[PATCH].shape
    layers = [re.match(r"transformer\.blocks\.(\d+)\.", name) for name in tensors]
    depth = 1 + max(int(layer[1]) for layer in layers if layer)
    check_depth(tensors, depth - 1)
    grid = math.isqrt(tensors[POSITIONS].shape[1] - 1)
    if grid < 1 or grid**2 + 1 != tensors[POSITIONS].shape[1]:
        raise ValueError(
            f"{POSITIONS}: {tensors[POSITIONS].shape[1]} tokens are not those of a square grid of"
            " patches, w^2 + 1"
        )
    num_heads = num_heads or width // HEAD_WIDTH
    if num_heads < 1 or width % num_heads:
        raise ValueError(f"width {width} is not that of {num_heads} heads; give --num_heads")
    heads = find_heads(tensors)
    if not heads:
        raise ValueError(f"this ViLT has no head; known: {', '.join(HEADS)}")
    sizes = dict(
        image_size=grid * patch_size,
        longest_side=int(LONGEST * grid * patch_size),
        patch_size=patch_size,
        vocab_size=tensors[WORDS].shape[0],
        text_length=tensors[TEXT_POSITIONS].shape[0],
        width=width,
        depth=depth,
        num_heads=num_heads,
        mlp_dim=tensors[FIRST].shape[0],
        heads=heads,
    )
    return sizes | ({"num_answers": tensors[ANSWERS].shape[0]} if ANSWERS in tensors else {})


def from_vilt(tensors: Tensors, *, num_heads: int | None = None) -> tuple[dict, dict, dict]:
    """Converts an official ViLT to our parameters.

    Args:
        tensors: official name -> array.
        num_heads: see `find_sizes`.

    Returns:
        Parameters as a pure nested dict, fields of `config.model`, and the tensors that are kept
        aside.

    Raises:
        ValueError: names the missing, unexpected and mis-shaped tensors.
    """
    sizes = find_sizes(tensors, num_heads=num_heads)
    places = places_of(sizes)
    split = split_biases(tensors)
    aside = {name for name in split if name not in places and _is_aside(name, sizes["heads"])}
    missing, unexpected = set(places) - set(split), set(split) - set(places) - aside
    if missing or unexpected:
        raise ValueError(
            f"not a ViLT of these sizes and heads: missing {named(sorted(missing))}; unexpected"
            f" {named(sorted(unexpected))}"
        )
    model = abstract_params(model_maker({"kind": "vilt", **sizes}))
    if wrong := wrong_shapes(split, places, model):
        raise ValueError(
            f"not a ViLT of width {sizes['width']}, {sizes['num_heads']} heads, depth"
            f" {sizes['depth']}: {'; '.join(wrong[:5])}"
        )
    return fill_places(split, places), sizes, {name: np.array(split[name]) for name in aside}


def _is_aside(name: str, heads: Iterable[str]) -> bool:
    """Whether a tensor is a buffer, or the pooler of a model none of whose heads reads it."""
    reads_pooler = any("pooler" in HEADS[head] for head in heads)
    return bool(re.fullmatch(BUFFERS, name) or name in MODULES["pooler"] and not reads_pooler)


def places_of(model: Mapping[str, Any]) -> dict[str, Place]:
    """`vilt_places` of the fields of `config.model`."""
    names = ("depth", "num_heads", "patch_size", "heads")
    return vilt_places(**{name: model[name] for name in names})


def to_vilt(params: Any, model: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts our parameters to an official state dict; `model` are the fields of
    `config.model`.
    """
    return join_biases(empty_places(params, places_of(model)))


def read_vilt(tensors: Tensors, *, num_heads: int | None = None, **others: int | None) -> Converted:
    """Reads a ViLT in official or in HuggingFace's names.

    Args:
        tensors: name -> array.
        num_heads: H, or None.
        others: hints that are of no use here, all None.
    """
    refuse_hints("vilt", others)
    huggingface = is_huggingface(tensors)
    official = from_huggingface(tensors) if huggingface else tensors
    params, sizes, aside = from_vilt(official, num_heads=num_heads)
    model = {"kind": "vilt", **RUNTIME, **sizes}
    config = whole_config(f"vilt:{_recipe_of(sizes['heads'])}", model, **CENTRED)
    return Converted(params, config, _preprocessing(sizes), aside, {"huggingface": huggingface})


def write_vilt(params: Any, meta: Mapping[str, Any], aside: Tensors) -> dict[str, np.ndarray]:
    """Writes an official ViLT, or one in HuggingFace's names where it came in them.

    Args:
        params: our parameters as a pure nested dict.
        meta: of their checkpoint.
        aside: tensors to add, by official name.
    """
    model, official = meta["config"]["model"], meta.get("official", {})
    if model.get("kind") != "vilt":
        raise ValueError(f"config.model.kind={model.get('kind')!r} is no ViLT")
    tensors = {**to_vilt(params, model), **aside}
    if official.get("extra", {}).get("huggingface"):
        return to_huggingface(tensors)
    return tensors


def _recipe_of(heads: Collection[str]) -> str:
    """The recipe that trains such a model."""
    return next((f"base,{head}" for head in ("vqa", "nlvr2", "rank") if head in heads), "base")


def _preprocessing(sizes: Mapping[str, Any]) -> dict[str, Any]:
    names = ("image_size", "longest_side", "patch_size")
    return {**{name: sizes[name] for name in names}, "resize": "patches bicubic", **CENTRED}
