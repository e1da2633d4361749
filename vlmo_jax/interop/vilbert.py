"""Names and layouts of ViLBERT's official checkpoints, both ways: the pre-trained one, and that of
twelve tasks in one (12-in-1).

Kept aside are tensors that no forward pass reads (`q_dense1`, `q_dense2`, position ids), a decoder
that is the word table under a second name, and the heads of tasks that are not here.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vlmo_jax.interop import bert
from vlmo_jax.interop.converted import RUNTIME, Converted, Tensors, refuse_hints
from vlmo_jax.interop.places import (
    LINEAR,
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
    wrong_shapes,
)
from vlmo_jax.interop.recipe_configs import whole_config
from vlmo_jax.interop.whole_bert import language_head_places
from vlmo_jax.models.build import abstract_params, model_maker

WORDS, POSITIONS = (f"bert.embeddings.{name}_embeddings.weight" for name in ("word", "position"))
REGIONS, BOXES = (
    f"bert.v_embeddings.image_{name}.weight" for name in ("embeddings", "location_embeddings")
)
TEXT_MLP, VISION_MLP = (
    f"bert.encoder.{name}.0.intermediate.dense.weight" for name in ("layer", "v_layer")
)
CO_QUERY = "bert.encoder.c_layer.0.biattention.query1.weight"
CLASSES = "cls.imagePredictions.decoder.weight"
DECODER = "cls.predictions.decoder.weight"
VQA, NLVR2 = "vil_prediction.logit_fc", "vil_binary_prediction.logit_fc"
TASK_ROWS = "bert.embeddings.task_embeddings.weight"

# Tensors that tell sizes, and their axes.
TELLING = {WORDS: 2, POSITIONS: 2, REGIONS: 2, TEXT_MLP: 2, VISION_MLP: 2, CO_QUERY: 2}

ASIDE = (
    r"bert\.encoder\.c_layer\.\d+\.biOutput\.q_dense[12]\.(weight|bias)",
    r"bert\.embeddings\.position_ids",
    re.escape(DECODER),
    r"(vil_prediction_gqa|vil_tri_prediction|vision_logit|linguisic_logit)\..*",
)
# Width of a head of every published stream, for files, which do not tell it.
TEXT_HEAD, OTHER_HEADS = 64, 128

# What no file tells, of every published model.
TEXT_LENGTH, NUM_REGIONS = 36, 100
VQA_ROW = 1  # of the task rows of 12-in-1


def _co_attention_places(number: int, num_heads: int) -> Iterator[NamedPlace]:
    """A co-attention block; 1 in the names is the vision stream, 2 the text."""
    prefix, root = f"bert.encoder.c_layer.{number}.", ("co_attention", "blocks")
    for side, mine, other in (("vision", 1, 2), ("text", 2, 1)):
        path = (*root, side, "attention")
        tensors = (
            (f"query{mine}", "q", (number,), "q_bias"),
            (f"key{other}", "kv", (number, None, 0), "k_bias"),
            (f"value{other}", "kv", (number, None, 1), "v_bias"),
        )
        for name, matrix, at, bias in tensors:
            name = f"{prefix}biattention.{name}"
            yield f"{name}.weight", Place((*path, matrix), at, bert.heads_in(num_heads))
            yield f"{name}.bias", Place((*path, bias), (number,), bert.heads_bias(num_heads))
        output = f"{prefix}biOutput"
        out = Place((*path, "out"), (number,), bert.heads_out(num_heads))
        yield f"{output}.dense{mine}.weight", out
        yield f"{output}.dense{mine}.bias", Place((*path, "out_bias"), (number,), SAME)
        norm = (*root, side, "attention_norm")
        yield from norm_places(f"{output}.LayerNorm{mine}", norm, (number,))
        letter = side[0]
        yield from bert.feed_forward_places(
            f"{prefix}{letter}_intermediate", f"{prefix}{letter}_output", (*root, side), number
        )


def _answer_places(name: str, head: str) -> Iterator[NamedPlace]:
    yield from dense_places(f"{name}.0", (head, "dense"))
    yield from norm_places(f"{name}.2", (head, "norm"))
    yield from dense_places(f"{name}.3", (head, "out"))


# The tensors of each head.
HEADS: dict[str, dict[str, Place]] = {
    "itm": dict(dense_places("cls.bi_seq_relationship", ("itm_head",))),
    "mlm": language_head_places("cls.predictions.", ("mlm_head",)),
    "region": {
        **dict(bert.transform_places("cls.imagePredictions.transform.", ("region_head",))),
        CLASSES: Place(("region_head", "decoder", "kernel"), (), LINEAR),
        "cls.imagePredictions.decoder.bias": Place(("region_head", "decoder", "bias"), (), SAME),
    },
    "rank": dict(dense_places("vil_logit", ("rank_head",))),
    "vqa": dict(_answer_places(VQA, "vqa_head")),
    "nlvr2": dict(_answer_places(NLVR2, "nlvr2_head")),
}


def official_places(model: Mapping[str, Any]) -> dict[str, Place]:
    """Every official tensor of a ViLBERT and its place in ours: dict name -> Place.

    Args:
        model: fields of `config.model`.
    """
    places = [
        *bert.embedding_places("bert.embeddings.", ("text_embedding",)),
        *dense_places("bert.v_embeddings.image_embeddings", ("region_embedding", "features")),
        *dense_places("bert.v_embeddings.image_location_embeddings", ("region_embedding", "boxes")),
        *norm_places("bert.v_embeddings.LayerNorm", ("region_embedding", "norm")),
        *dense_places("bert.t_pooler.dense", ("text_pooler",)),
        *dense_places("bert.v_pooler.dense", ("vision_pooler",)),
    ]
    for name, stream, prefix in (("layer", "text", ""), ("v_layer", "vision", "vision_")):
        for number in range(model[f"{prefix}depth"]):
            root, heads = (stream, "blocks"), model[f"{prefix}num_heads"]
            places += bert.block_places(f"bert.encoder.{name}.{number}.", root, number, heads)
    for number in range(len(model["co_blocks"])):
        places += _co_attention_places(number, model["co_num_heads"])
    if model.get("num_tasks", 0):
        places.append((TASK_ROWS, Place(("task_rows",), (), SAME)))
    for head in model["heads"]:
        places += HEADS[head].items()
    return dict(places)


def from_official(
    tensors: Tensors, places: Mapping[str, Place]
) -> tuple[dict, dict[str, np.ndarray]]:
    """Converts an official state dict to our parameters.

    Args:
        tensors: name -> array; values are asked for one by one.
        places: of `official_places`.

    Returns:
        Parameters as a pure nested dict of numpy arrays, and what is kept aside.

    Raises:
        ValueError: names the missing and the unexpected tensors.
    """
    aside = {
        name: np.array(tensors[name])
        for name in tensors
        if name not in places and any(re.fullmatch(pattern, name) for pattern in ASIDE)
    }
    missing, unexpected = set(places) - set(tensors), set(tensors) - set(places) - set(aside)
    if missing or unexpected:
        raise ValueError(
            f"not a ViLBERT of these sizes and heads: missing {named(sorted(missing))}; unexpected"
            f" {named(sorted(unexpected))}"
        )
    _check_decoder(tensors, aside)
    return fill_places(tensors, places), aside


def _check_decoder(tensors: Tensors, aside: Tensors) -> None:
    """Raises ValueError if there is a decoder of words that is not the word table."""
    if DECODER in aside and not np.array_equal(aside[DECODER], tensors[WORDS]):
        raise ValueError(f"{DECODER} is not {WORDS}, to which ViLBERT ties it")


def to_official(
    params: Any, places: Mapping[str, Place], aside: Tensors | None = None
) -> dict[str, np.ndarray]:
    """The inverse of `from_official`."""
    return {**empty_places(params, places), **(aside or {})}


def find_sizes(tensors: Tensors) -> dict[str, Any]:
    """The fields of `config.model` that the names and shapes of an official file tell, with heads
    and places of co-attention as in the published models.

    Raises:
        ValueError: a tensor that tells a size is missing or has another number of axes.
    """
    if missing := [name for name in TELLING if name not in tensors]:
        raise ValueError(f"this is no ViLBERT: missing {missing}")
    check_ranks("ViLBERT", tensors, {**TELLING, CLASSES: 2, f"{VQA}.3.weight": 2})
    depth, vision_depth, co_depth = (
        _depth(tensors, name) for name in ("layer", "v_layer", "c_layer")
    )
    width, vision_width = tensors[WORDS].shape[1], len(tensors[REGIONS])
    co_width, positions = len(tensors[CO_QUERY]), len(tensors[POSITIONS])
    if co_depth > min(depth, vision_depth):
        raise ValueError(
            f"{co_depth} co-attention layers do not fit {depth} of text and {vision_depth} of"
            " vision; published models have at most one before each of the last"
        )
    return {
        "image_size": 0,
        "patch_size": 0,
        "num_regions": NUM_REGIONS,
        "region_width": tensors[REGIONS].shape[1],
        "region_classes": len(tensors[CLASSES]) if CLASSES in tensors else 0,
        "text_length": min(TEXT_LENGTH, positions),
        "text_positions": positions,
        "vocab_size": len(tensors[WORDS]),
        "width": width,
        "depth": depth,
        "num_heads": _heads("text", width, TEXT_HEAD),
        "mlp_dim": len(tensors[TEXT_MLP]),
        "vision_width": vision_width,
        "vision_depth": vision_depth,
        "vision_num_heads": _heads("vision", vision_width, OTHER_HEADS),
        "vision_mlp_dim": len(tensors[VISION_MLP]),
        "co_width": co_width,
        "co_num_heads": _heads("co-attention", co_width, OTHER_HEADS),
        "co_blocks": list(range(depth - co_depth, depth)),
        "vision_co_blocks": list(range(co_depth)),
        "heads": [head for head, places in HEADS.items() if set(places) & set(tensors)],
        "num_answers": len(tensors[f"{VQA}.3.weight"]) if f"{VQA}.3.weight" in tensors else 1,
        "num_tasks": len(tensors[TASK_ROWS]) if TASK_ROWS in tensors else 0,
        "task_row": VQA_ROW if TASK_ROWS in tensors else 0,
    }


def _heads(stream: str, width: int, of_one: int) -> int:
    """How many attention heads a stream has, whose files do not tell them: as published."""
    if width > of_one and width % of_one:
        raise ValueError(
            f"the {stream} stream is {width} wide, which is no multiple of the {of_one} of a head"
            " in every published ViLBERT"
        )
    return max(1, width // of_one)


def _depth(tensors: Tensors, name: str) -> int:
    """How many layers of a name there are."""
    found = [re.match(rf"bert\.encoder\.{name}\.(\d+)\.", tensor) for tensor in tensors]
    last = max((int(match[1]) for match in found if match), default=-1)
    check_depth(tensors, last)
    return last + 1


def read_vilbert(tensors: Tensors, **hints: int | None) -> Converted:
    """Reads an official ViLBERT, pre-trained or of twelve tasks in one.

    Args:
        tensors: official name -> array.
        hints: of no use here, all None.
    """
    refuse_hints("vilbert", hints)
    sizes = find_sizes(tensors)
    runtime = {name: RUNTIME[name] for name in ("init_std", "dtype", "remat", "scan_layers")}
    model = {"kind": "vilbert", **runtime, **sizes, "fusion": "product", "dropout_rate": 0.0}
    places = official_places(model)
    present = {name: place for name, place in places.items() if name in tensors}
    if wrong := wrong_shapes(tensors, present, abstract_params(model_maker(model))):
        raise ValueError(
            f"not a ViLBERT of width {sizes['width']}, depth {sizes['depth']}: "
            + "; ".join(wrong[:5])
        )
    params, aside = from_official(tensors, places)
    seen = {name: sizes[name] for name in ("num_regions", "region_width")}
    return Converted(params, whole_config("vilbert:base", model), seen, aside, {})


def write_vilbert(params: Any, meta: Mapping[str, Any], aside: Tensors) -> dict[str, np.ndarray]:
    """Writes an official ViLBERT.

    Args:
        params: our parameters as a pure nested dict.
        meta: of their checkpoint.
        aside: tensors to add, by official name.
    """
    model = meta["config"]["model"]
    if model.get("kind") != "vilbert":
        raise ValueError(f"config.model.kind={model.get('kind')!r} is no ViLBERT")
    return to_official(params, official_places(model), aside)
