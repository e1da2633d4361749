"""Kinds `vqa`, `nlvr2` and `irtr`: heads of fine-tuning, their losses and gradients."""

import functools
import re
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
from vlmo_jax.models.vlmo import VLMo
from vlmo_jax.objectives.answers import answer_losses, truth_losses
from vlmo_jax.objectives.contrastive import contrastive_logits, contrastive_loss

Batch = dict[str, jax.Array]
LossAndOutputs = tuple[jax.Array, dict[str, jax.Array]]


def _vqa(model: VLMo, batch: Batch, targets: jax.Array) -> LossAndOutputs:
    """Binary cross-entropy summed over the answers, mean over questions: the official mean times
    their number.
    """
    logits = model.answer(batch["image"], batch["token_ids"], batch["token_mask"])
    loss = answer_losses(logits, targets).mean()
    return loss, {"loss": loss, "logits": logits, "targets": targets}


def _nlvr2(model: VLMo, batch: Batch, labels: jax.Array) -> LossAndOutputs:
    logits = model.compare(
        batch["image_0"], batch["image_1"], batch["token_ids"], batch["token_mask"]
    )
    loss = truth_losses(logits, labels).mean()
    return loss, {"loss": loss, "logits": logits, "labels": labels}


def _irtr(model: VLMo, batch: Batch, labels: jax.Array) -> LossAndOutputs:
    image = model.retrieval_image(batch["image"])
    text = model.retrieval_text(batch["token_ids"], batch["token_mask"])
    scale = model.itc.logit_scale[...]
    to_text, to_image = contrastive_logits(image, text, scale)
    loss = contrastive_loss(to_text, to_image)
    return loss, {
        "loss": loss,
        "i2t_logits": to_text,
        "t2i_logits": to_image,
        "labels": labels,
        "logit_scale": jnp.exp(scale),
    }


TASKS = {"vqa": _vqa, "nlvr2": _nlvr2, "irtr": _irtr}


@functools.partial(jax.jit, static_argnames=("graphdef", "kind"))
def step_gradients(
    params: Any, graphdef: nnx.GraphDef, kind: str, batch: Batch, truth: jax.Array
) -> Any:
    """((loss, outputs), gradients) of one step.

    Args:
        params: of our model.
        graphdef: of our model.
        kind: one of TASKS.
        batch: of `reference.official_batch`.
        truth: what the answers are compared with: scores [B, answers] of VQA, labels [B] else.
    """

    def loss(params: Any) -> LossAndOutputs:
        return TASKS[kind](nnx.merge(graphdef, params), batch, truth)

    return jax.value_and_grad(loss, has_aux=True)(params)


def _truth(reference: Reference, kind: str, batch_size: int) -> np.ndarray:
    """What the answers are compared with: scores [B, answers] of VQA, labels [B] else."""
    if kind == "irtr":
        return np.arange(batch_size)
    return _labels(reference) if kind == "nlvr2" else _scores(reference, batch_size)


def _labels(reference: Reference) -> np.ndarray:
    """NLVR2's labels [B], which the inputs or the JSON hold under one of several names."""
    for source in (reference.group("in"), reference.info):
        for name in ("answers", "nlvr2_labels", "labels"):
            if name in source:
                return np.asarray(source[name]).reshape(-1).astype(np.int32)
    raise ValueError("an nlvr2 fixture needs in/answers (or `answers` in its JSON)")


def _scores(reference: Reference, batch_size: int) -> np.ndarray:
    """VQA's scores [B, answers], from the inputs, from the JSON's labels, or from the outputs."""
    inputs, info = reference.group("in"), reference.info
    for name in ("vqa_targets", "targets"):
        if name in inputs:
            return inputs[name]
    if "vqa_labels" not in info:
        return reference.group("out")["vqa_targets"]
    targets = np.zeros((batch_size, reference.fields["num_answers"]), np.float32)
    rows = zip(info["vqa_labels"], info["vqa_scores"], strict=True)
    for row, (labels, scores) in enumerate(rows):
        targets[row, labels] = scores
    return targets


def check_finetune(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares outputs, loss and the gradients that are stored.

    Raises:
        ValueError: names outputs that are not known.
    """
    reference, kind = Reference(arrays, info), info["kind"]
    params = reference.params("param")
    compare_inputs(reference, report, extra=("answers", "vqa_targets", "targets"))
    compare_buffers(reference, report)
    batch = jax.tree.map(jnp.asarray, official_batch(reference.group("in")))
    truth = jnp.asarray(_truth(reference, kind, len(batch["token_ids"])))
    (_, found), grads = step_gradients(params, reference.graphdef, kind, batch, truth)
    ours = {f"{kind}_{name}": value for name, value in found.items()}
    ours["total_loss"] = found["loss"]
    theirs, of_modes = reference.group("out"), []
    for name, value in theirs.items():
        known = name.removeprefix("step/")
        if known in ours:
            report.compare(f"out/{name}", ours[known], value, OUTPUT_TOLERANCE)
        else:
            of_modes.append(name)
    for name, output in _mode_outputs(reference, params, batch, of_modes).items():
        report.compare(f"out/{name}", output, theirs[name], OUTPUT_TOLERANCE)
    compare_gradients(reference, report, grads)


def _mode_outputs(
    reference: Reference, params: Any, batch: Batch, names: list[str]
) -> dict[str, jax.Array]:
    """The outputs of single forward passes; passes over NLVR2's images are numbered from 0 or from
    1.
    """
    if "image_0" not in batch:
        return model_outputs(reference.graphdef, params, batch, tuple(names))
    matches = {name: re.fullmatch(r"(infer)_?(\d?)(/.*)", name) for name in names}
    unknown = sorted(name for name, match in matches.items() if not match)
    if unknown:
        raise ValueError(f"outputs that are not known: {unknown}")
    parts = {name: match.groups() for name, match in matches.items() if match}
    first = 0 if any(number == "0" for _, number, _ in parts.values()) else 1
    found: dict[str, jax.Array] = {}
    for image in (0, 1):
        wanted = {
            mode + output: name
            for name, (mode, number, output) in parts.items()
            if int(number or first) - first == image
        }
        inputs = {**batch, "image": batch[f"image_{image}"]}
        outputs = model_outputs(
            reference.graphdef, params, inputs, tuple(wanted), image_type=1 + image
        )
        found |= {wanted[name]: value for name, value in outputs.items()}
    return found
