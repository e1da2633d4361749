"""Kind `pretrain`: outputs of every mode, losses and every gradient of one stage-3 step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.interop.checks.outputs import model_outputs
from vlmo_jax.interop.checks.reference import (
    OUTPUT_TOLERANCE,
    Arrays,
    Info,
    Reference,
    compare_buffers,
    compare_gradients,
    compare_inputs,
    official_batch,
)
from vlmo_jax.objectives.means import shares, weighted_total
from vlmo_jax.tasks.pair_pretrain import Negatives, PairPretrainTask


def step_outputs(
    params: Any,
    graphdef: nnx.GraphDef,
    batch: dict[str, jax.Array],
    negatives: tuple[jax.Array, jax.Array] | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Losses and logits of one stage-3 step by their official names.

    Args:
        params: of our model.
        graphdef: of our model.
        batch: of `reference.official_batch`.
        negatives: rows of the negative images and texts, [B] each; None to draw them.

    Returns:
        The total loss, and losses and logits by name.
    """
    model, task = nnx.merge(graphdef, params), PairPretrainTask()
    features = task.features(model, batch, None)
    contrast, drawn, metrics = task.contrast(features, batch, (), jax.random.key(0))
    rows = drawn if negatives is None else Negatives(*negatives)
    pairs = task.fused_pairs(batch, rows)
    sums, counts = task.fused_sums(model, pairs, (), None), task.counts(batch)
    fused_metrics = shares(sums, counts)
    total = contrast + weighted_total(sums, counts, task.weights)
    scale, scale_vl = jnp.exp(features.logit_scale), jnp.exp(features.logit_scale_vl)
    ids, mask, image = batch["token_ids"], batch["token_mask"], batch["image"]
    ids = jnp.concatenate([batch["mlm_token_ids"], ids, ids, pairs["negative_token_ids"]])
    mask = jnp.concatenate([mask, mask, mask, pairs["negative_token_mask"]])
    image = jnp.concatenate([image, image, pairs["negative_image"], image])
    states = jnp.split(model.encode_fused(model.embed_text(ids), mask, model.embed_image(image)), 4)
    first_tokens = jnp.concatenate([state[:, 0] for state in states[1:]])
    return total, {
        "total_loss": total,
        "mlm_loss": task.mlm_weight * fused_metrics["mlm_loss"],
        "itc_loss": metrics["itc_loss"],
        "itm_loss": fused_metrics["itm_loss"],
        "mlm_logits": model.mlm_head(states[0][:, : batch["token_ids"].shape[1]]),
        "itc_i2t_logits": scale * features.image @ features.text.T,
        "itc_t2i_logits": scale * features.text @ features.image.T,
        "itc_vl_i2t_logits": scale_vl * features.image_vl @ features.text_vl.T,
        "itc_logit_scale": scale,
        "itc_logit_vl_scale": scale_vl,
        "itm_logits": model.itm_head(model.pooler(first_tokens)),
        "itm_neg_image_idx": rows.image,
        "itm_neg_text_idx": rows.text,
    }


step_gradients = jax.jit(jax.value_and_grad(step_outputs, has_aux=True), static_argnums=1)


def check_pretrain(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares outputs of every mode, one step's losses, and the gradient of every parameter."""
    reference = Reference(arrays, info)
    params = reference.params("param")
    compare_inputs(reference, report)
    compare_buffers(reference, report)
    batch = jax.tree.map(jnp.asarray, official_batch(reference.group("in")))
    results = reference.group("out")
    expected = {name: results[name] for name in results if not name.startswith("step/")}
    outputs = model_outputs(reference.graphdef, params, batch, tuple(expected))
    for name, value in expected.items():
        report.compare(f"out/{name}", outputs[name], value, OUTPUT_TOLERANCE)

    step = reference.group("out/step")
    negatives = None
    # A batch of two forces the negatives, so ours are drawn; a larger one takes those the reference
    # drew.
    if len(batch["token_ids"]) != 2:
        negatives = (
            jnp.asarray(step["itm_neg_image_idx"]),
            jnp.asarray(step["itm_neg_text_idx"]),
        )
    (_, ours), grads = step_gradients(params, reference.graphdef, batch, negatives)
    report.compare(
        "out/step/itm_labels",
        np.repeat([1, 0, 0], len(batch["token_ids"])),
        step.pop("itm_labels"),
        0.0,
    )
    for name, value in step.items():
        report.compare(f"out/step/{name}", ours[name], value, OUTPUT_TOLERANCE)
    without = sorted(set(reference.places) - set(reference.group("grad")))
    if without:
        raise ValueError(f"the fixture holds no gradient of {without}")
    compare_gradients(reference, report, grads)
