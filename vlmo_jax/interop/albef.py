"""ALBEF's official checkpoints of pre-training and of retrieval, and the way back to their names.

Files of other tasks are refused: VQA writes answers with a decoder, NLVR2 and visual entailment
have heads of their own, the first of them two stacks of fusion layers.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vlmo_jax.interop.albef_names import TOWERS, albef_places
from vlmo_jax.interop.converted import Converted, Tensors, extra_of, preprocessing, refuse_hints
from vlmo_jax.interop.places import (
    check_depth,
    check_ranks,
    empty_places,
    fill_places,
    named,
    wrong_shapes,
)
from vlmo_jax.interop.recipe_configs import whole_config
from vlmo_jax.interop.vit import join_biases, split_biases
from vlmo_jax.models.build import abstract_params, model_maker

STATISTICS = dict(
    mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711]
)
RUNTIME = dict(dropout_rate=0.0, init_std=0.02, dtype="auto", remat="none", scan_layers=True)
HEAD_WIDTH = 64  # of every model that was published
PRETRAIN_LENGTH, RETRIEVAL_LENGTH = 25, 30  # tokens of a text
PATCH, POSITIONS = "visual_encoder.patch_embed.proj.weight", "visual_encoder.pos_embed"
FIRST = "visual_encoder.blocks.0.mlp.fc1.weight"
# Kept aside: buffers, queues, and the momentum towers.
ASIDE = (
    rf"({'|'.join(TOWERS)})_m\..*|text_encoder\.(bert\.)?embeddings\.position_ids|"
    r"image_queue|text_queue|queue_ptr|idx_queue"
)
# Names of what other tasks have, and what they are.
OTHERS = {
    "text_decoder.": "of VQA: it writes answers with a decoder, which ours has not; pre-train or"
    " convert ALBEF.pth, and fine-tune that on questions",
    "ta_head.": "of the second pre-training for NLVR2, with two stacks of fusion layers; convert"
    " ALBEF.pth",
    "cls_head.": "of NLVR2 or visual entailment, whose heads ours has not; convert ALBEF.pth",
}
# The decoder of masked words is the word table, its bias that of the head: stored twice.
COPIES = {
    "text_encoder.cls.predictions.decoder.weight": "text_encoder.bert.embeddings.word_embeddings"
    ".weight",
    "text_encoder.cls.predictions.decoder.bias": "text_encoder.cls.predictions.bias",
}


def find_sizes(tensors: Mapping[str, Any], *, num_heads: int | None = None) -> dict[str, Any]:
    """Fields of `config.model` that the names and shapes of an official ALBEF tell.

    Args:
        tensors: official name -> anything with a shape.
        num_heads: H of both towers; None: as many as are HEAD_WIDTH wide.

    Raises:
        ValueError: it is no ALBEF, one of another task, or the heads do not fit.
    """
    _refuse_other_tasks(tensors)
    bert = f"text_encoder.{bert_prefix(tensors)}"
    words, positions = (
        f"{bert}embeddings.{name}_embeddings.weight" for name in ("word", "position")
    )
    layer = f"{bert}encoder.layer."
    first = f"{layer}0.intermediate.dense.weight"
    needed = (PATCH, POSITIONS, FIRST, words, positions, first, "vision_proj.weight")
    if missing := [name for name in needed if name not in tensors]:
        raise ValueError(f"this is no ALBEF: missing {missing}{_hint(tensors)}")
    ranks = {PATCH: 4, POSITIONS: 3, FIRST: 2, words: 2, positions: 2, first: 2}
    check_ranks("ALBEF", tensors, {**ranks, "vision_proj.weight": 2})
    layers = _numbers(re.escape(layer) + r"(\d+)\.", tensors)
    crossed = _numbers(re.escape(layer) + r"(\d+)\.crossattention\.", tensors)
    blocks = _numbers(r"visual_encoder\.blocks\.(\d+)\.", tensors)
    check_depth(tensors, max((*layers, *blocks)))
    if not crossed:
        raise ValueError(f"this is no ALBEF: none of {layer}* has a crossattention")
    vision_width, _, patch_size, _ = tensors[PATCH].shape
    grid = _grid(tensors[POSITIONS].shape)
    width, text_positions = tensors[words].shape[1], tensors[positions].shape[0]
    pretrained = any(name.startswith("text_encoder.cls.") for name in tensors)
    length = PRETRAIN_LENGTH if pretrained else RETRIEVAL_LENGTH
    return dict(
        image_size=grid * patch_size,
        patch_size=patch_size,
        vision_width=vision_width,
        vision_depth=max(blocks) + 1,
        vision_num_heads=_heads(vision_width, num_heads),
        vision_mlp_dim=tensors[FIRST].shape[0],
        text_length=min(length, text_positions),
        text_positions=text_positions,
        vocab_size=tensors[words].shape[0],
        width=width,
        num_heads=_heads(width, num_heads),
        mlp_dim=tensors[first].shape[0],
        depth=min(crossed),
        fusion_depth=max(layers) + 1 - min(crossed),
        embed_dim=tensors["vision_proj.weight"].shape[0],
        heads=("itc", "itm", "mlm") if pretrained else ("retrieval", "itm"),
    )


def _refuse_other_tasks(names: Mapping[str, Any]) -> None:
    for start, what in OTHERS.items():
        if any(name.startswith(start) for name in names):
            raise ValueError(f"this ALBEF has {start}*: it is {what}")


def _grid(shape: tuple[int, ...]) -> int:
    """Patches a side of a position table [1, 1 + patches, D]."""
    grid = math.isqrt(max(shape[1] - 1, 0))
    if not grid or grid**2 + 1 != shape[1]:
        raise ValueError(f"{POSITIONS}: {shape} is of no square grid of patches")
    return grid


def bert_prefix(names: Mapping[str, Any]) -> str:
    """What stands between `text_encoder.` and BERT's names: nothing in files of fine-tuning."""
    return "bert." if any(name.startswith("text_encoder.bert.") for name in names) else ""


def read_albef(
    tensors: Tensors, *, num_heads: int | None = None, **others: int | str | None
) -> Converted:
    """Reads an official ALBEF of pre-training or retrieval.

    Args:
        tensors: official name -> array.
        num_heads: see `find_sizes`.
        others: hints that are of no use here, all None.

    Raises:
        ValueError: it is none; says what is missing, unexpected or of another shape.
    """
    refuse_hints("albef", others)
    sizes, prefix = find_sizes(tensors, num_heads=num_heads), bert_prefix(tensors)
    model = {"kind": "albef", **RUNTIME, **sizes}
    places, split = albef_places(model, prefix=prefix), split_biases(tensors)
    copies = [name for name in COPIES if name in tensors]
    aside = sorted(name for name in tensors if re.fullmatch(ASIDE, name))
    # Towers of momentum keep their names, which `split_biases` would change.
    kept = set(split_biases(dict.fromkeys(aside, np.zeros(3)))) | set(copies)
    missing, unexpected = sorted(set(places) - set(split)), sorted(set(split) - set(places) - kept)
    if missing or unexpected:
        raise ValueError(
            f"not an ALBEF of these sizes: missing {named(missing)}; unexpected {named(unexpected)}"
        )
    if wrong := wrong_shapes(split, places, abstract_params(model_maker(model))):
        raise ValueError(f"not an ALBEF of these sizes: {'; '.join(wrong[:5])}")
    for name in copies:
        if not np.array_equal(tensors[name], tensors[COPIES[name]]):
            raise ValueError(
                f"{name} differs from {COPIES[name]}, and ours has one array for both; this file is"
                " of another model"
            )
    config = whole_config("albef:base", model, **STATISTICS)
    return Converted(
        fill_places(split, places),
        config,
        preprocessing(sizes["image_size"], STATISTICS),
        {name: np.array(tensors[name]) for name in aside},
        {"prefix": prefix, "copies": copies},
    )


def write_albef(params: Any, meta: Mapping[str, Any], aside: Tensors) -> dict[str, np.ndarray]:
    """Writes an ALBEF in official names.

    Args:
        params: our parameters as a pure nested dict.
        meta: of their checkpoint, which came in these names or was trained from one that did.
        aside: tensors to add: queues and momentum towers as they came.

    Raises:
        ValueError: a model of another kind, or one with a head that the official code has not.
    """
    model = meta["config"]["model"]
    if model.get("kind") != "albef":
        raise ValueError(f"config.model.kind={model.get('kind')!r} is no ALBEF")
    if "vqa" in model["heads"]:
        raise ValueError(
            "config.model.heads has 'vqa', a choice of answers, where the official ALBEF writes"
            " them; only the heads itc, retrieval, itm and mlm have official names"
        )
    extra = extra_of("albef", meta) if "official" in meta else None
    pretrained = "mlm" in model["heads"]
    if extra is None:
        extra = {"prefix": "bert." if pretrained else "", "copies": list(COPIES) * pretrained}
    places = albef_places(model, prefix=extra["prefix"])
    tensors = join_biases(empty_places(params, places))
    copies = {name: tensors[COPIES[name]] for name in extra["copies"]}
    return {**tensors, **copies, **aside}


def _numbers(pattern: str, names: Mapping[str, Any]) -> set[int]:
    matches = [re.match(pattern, name) for name in names]
    return {int(match[1]) for match in matches if match}


def _heads(width: int, given: int | None) -> int:
    heads = given or width // HEAD_WIDTH
    if not heads or width % heads:
        raise ValueError(
            f"{heads} heads do not fit width {width}, and nothing in the file tells them; give"
            " --num_heads"
        )
    return heads


def _hint(tensors: Mapping[str, Any]) -> str:
    if any(name.startswith("transformer.blocks.") for name in tensors):
        return "; it looks like a VLMo or a ViLT: use --from=vlmo or --from=vilt"
    if "visual.conv1.weight" in tensors or "logit_scale" in tensors:
        return "; it looks like a CLIP: use --from=clip"
    if any(name.startswith("text_encoder.") for name in tensors):
        return "; names of LAVIS are not read: give a file of the official repository"
    return f"; it has {', '.join(sorted(tensors)[:3])}, ..."
