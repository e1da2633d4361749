"""Kind `vilbert`: what both streams and all heads say, losses and every gradient of one step of
pre-training, and the sum of the poolers and the loss on features beside it.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.interop.checks.reference import Arrays, Info, group, same_tensors
from vlmo_jax.interop.converted import RUNTIME
from vlmo_jax.interop.places import wrong_shapes
from vlmo_jax.interop.vilbert import from_official, official_places, to_official
from vlmo_jax.layers.regions import Regions
from vlmo_jax.models.build import abstract_model, model_maker
from vlmo_jax.models.vilbert_fields import PRETRAIN_HEADS
from vlmo_jax.objectives.masked_language import count_masked, masked_language_loss
from vlmo_jax.objectives.masked_regions import (
    class_losses,
    count_masked_regions,
    feature_losses,
    over_masked,
)
from vlmo_jax.objectives.matching import matching_loss

OUTPUT_TOLERANCE = 2e-5
GRADIENT_TOLERANCE, GRADIENT_FLOOR = 1e-5, 1e-6
ALTERNATIVE = "alt_sum_mse"

# Official names of sizes, and ours.
SIZES = {
    "region_width": "v_feature_size",
    "region_classes": "v_target_size",
    "text_positions": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "vision_width": "v_hidden_size",
    "vision_depth": "v_num_hidden_layers",
    "vision_num_heads": "v_num_attention_heads",
    "vision_mlp_dim": "v_intermediate_size",
    "co_width": "bi_hidden_size",
    "co_num_heads": "bi_num_attention_heads",
    "co_blocks": "t_biattention_id",
    "vision_co_blocks": "v_biattention_id",
}
FUSION_NAMES = {"mul": "product", "sum": "sum"}
VISUAL_TARGETS = {0: class_losses, 1: feature_losses}

# Inputs, which are all that a fixture may hold beside its outputs.
INPUTS = (
    "input_ids",
    "token_type_ids",
    "attention_mask",
    "image_feat",
    "image_loc",
    "image_attention_mask",
    "masked_lm_labels",
    "image_label",
    "image_target",
    "next_sentence_label",
)


def model_fields(config: Mapping[str, Any], *, text_length: int, regions: int) -> dict[str, Any]:
    """The fields of `config.model` for sizes of an official config, heads of pre-training."""
    runtime = {name: RUNTIME[name] for name in ("init_std", "remat", "scan_layers")}
    return {
        "kind": "vilbert",
        **runtime,
        **{ours: config[official] for ours, official in SIZES.items()},
        "fusion": FUSION_NAMES[config["fusion_method"]],
        "heads": PRETRAIN_HEADS,
        "image_size": 0,
        "patch_size": 0,
        "num_regions": regions,
        "text_length": text_length,
        "dropout_rate": 0.0,
        "dtype": "float32",
    }


def losses_and_outputs(
    params: Any, graphdef: nnx.GraphDef, batch: Mapping[str, jax.Array], visual_target: int
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The total loss, and losses and outputs of one step by their official names.

    Args:
        params, graphdef: of our model.
        batch: the official inputs.
        visual_target: a key of VISUAL_TARGETS.
    """
    model = nnx.merge(graphdef, params)
    boxes, seen = batch["image_loc"], batch["image_attention_mask"].astype(bool)
    pair = model.encode_regions(
        Regions(batch["image_feat"], boxes, seen),
        batch["input_ids"],
        batch["attention_mask"].astype(bool),
        segments=batch["token_type_ids"],
    )
    words, regions = (
        model.predict_words(pair.tokens.text),
        model.predict_regions(pair.tokens.vision),
    )
    labels, masked = batch["masked_lm_labels"], batch["image_label"] == 1
    matches = model.match_logits(pair.fused)
    region_losses = VISUAL_TARGETS[visual_target](regions[:, 1:], batch["image_target"])
    losses = {
        "masked_lm_loss": masked_language_loss(words, labels).sum() / count_masked(labels),
        "masked_img_loss": over_masked(region_losses, masked) / count_masked_regions(masked),
        # 0 is aligned there, 1 here.
        "next_sentence_loss": matching_loss(matches, 1 - batch["next_sentence_label"]).mean(),
    }
    total = sum(losses.values(), start=jnp.zeros(()))
    return total, {
        **{name: loss[None] for name, loss in losses.items()},
        "total_loss": total,
        "sequence_output_t": pair.tokens.text,
        "sequence_output_v": pair.tokens.vision,
        "pooled_output_t": pair.pooled.text,
        "pooled_output_v": pair.pooled.vision,
        "prediction_scores_t": words,
        "prediction_scores_v": regions,
        "seq_relationship_score": matches[:, ::-1],
    }


@functools.partial(jax.jit, static_argnums=(1, 3))
def step_gradients(
    params: Any, graphdef: nnx.GraphDef, batch: Mapping[str, jax.Array], visual_target: int
) -> Any:
    """((total, losses and outputs), gradients) of `losses_and_outputs`."""
    step = functools.partial(losses_and_outputs, batch=batch, visual_target=visual_target)
    return jax.value_and_grad(lambda params: step(params, graphdef), has_aux=True)(params)


def check_vilbert(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares one fixture.

    Args:
        arrays: name -> array.
        info: its JSON.
        report: has `compare` and `compare_names` of interop.check.

    Raises:
        ValueError: the parameters do not fit the sizes, the way back to their names is not exact,
            or there are arrays that nothing here knows.
    """
    config, tensors = info["config"], group(arrays, "param")
    batch = {name: arrays[name] for name in INPUTS}
    fields = model_fields(
        config,
        text_length=batch["input_ids"].shape[1],
        regions=batch["image_feat"].shape[1] - 1,
    )
    places = official_places(fields)
    graphdef, abstract = abstract_model(model_maker(fields))
    params, aside = from_official(tensors, places)
    if wrong := wrong_shapes(tensors, places, nnx.to_pure_dict(abstract)):
        raise ValueError(f"tensors do not fit the sizes in the JSON: {'; '.join(wrong[:5])}")
    if not same_tensors(to_official(params, places, aside), tensors):
        raise ValueError("the way back to the names of the fixture is not exact")
    params, batch = jax.tree.map(jnp.asarray, (params, batch))
    (_, ours), grads = step_gradients(params, graphdef, batch, config["visual_target"])
    _compare_outputs(ours, arrays, "", report)
    theirs, grads = group(arrays, "grad"), to_official(grads, places)
    report.compare_names("params_without_grad", set(aside), info["params_without_grad"])
    report.compare_names("gradients of no parameter", set(theirs) - set(grads), ())
    for name in sorted(set(grads) & set(theirs)):
        tolerance = GRADIENT_TOLERANCE * float(np.abs(theirs[name]).max()) + GRADIENT_FLOOR
        report.compare(f"grad/{name}", grads[name], theirs[name], tolerance)
    known = {*INPUTS, *ours}
    if group(arrays, ALTERNATIVE):
        other, _ = abstract_model(model_maker({**fields, "fusion": "sum"}))
        _, ours = jax.jit(losses_and_outputs, static_argnums=(1, 3))(params, other, batch, 1)
        _compare_outputs(ours, arrays, f"{ALTERNATIVE}/", report)
    named = ("param/", "grad/", f"{ALTERNATIVE}/")
    if unknown := sorted(n for n in arrays if n not in known and not n.startswith(named)):
        raise ValueError(f"arrays that are not known: {unknown}")


def _compare_outputs(
    ours: Mapping[str, jax.Array], arrays: Arrays, prefix: str, report: Any
) -> None:
    """Compares what a fixture holds under a prefix, "" for none.

    Raises:
        ValueError: it holds something else there.
    """
    theirs = group(arrays, prefix[:-1]) if prefix else {n: arrays[n] for n in ours}
    if unknown := sorted(set(theirs) - set(ours)):
        raise ValueError(f"{prefix} holds outputs that are not known: {unknown}")
    for name, value in theirs.items():
        report.compare(f"{prefix}{name}", ours[name], value, OUTPUT_TOLERANCE)
