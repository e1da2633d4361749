"""Kinds `vqa`, `nlvr2` and `irtr`: heads of fine-tuning, their losses and gradients."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from vlmo_jax.interop.checks.outputs import model_outputs
from vlmo_jax.interop.checks.reference import (
    OUTPUT_TOLERANCE,
    Reference,
    compare_buffers,
    compare_gradients,
    compare_inputs,
    official_batch,
)
from vlmo_jax.objectives.contrastive import contrastive_logits, contrastive_loss


def _vqa(model, batch, targets):
    """Binary cross-entropy summed over the answers, mean over questions: the official mean times
    their number.
    """
    logits = model.answer(batch["image"], batch["token_ids"], batch["token_mask"])
    loss = optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1).mean()
    return loss, {"loss": loss, "logits": logits, "targets": targets}


def _nlvr2(model, batch, labels):
    logits = model.compare(
        batch["image_0"], batch["image_1"], batch["token_ids"], batch["token_mask"]
    )
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, {"loss": loss, "logits": logits, "labels": labels}


def _irtr(model, batch, labels):
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
def step_gradients(params, graphdef, kind, batch, truth):
    """Loss, outputs and gradients of one step; `truth` is what the answers are compared with."""
    return jax.value_and_grad(
        lambda params: TASKS[kind](nnx.merge(graphdef, params), batch, truth), has_aux=True
    )(params)


def _truth(reference, kind, batch_size):
    """What the answers are compared with: scores [B, answers] of VQA, labels [B] else."""
    inputs, info, outputs = reference.group("in"), reference.info, reference.group("out")
    if kind == "irtr":
        return np.arange(batch_size)
    if kind == "nlvr2":
        answers = [
            source[name]
            for source in (inputs, info)
            for name in ("answers", "nlvr2_labels", "labels")
            if name in source
        ]
        if not answers:
            raise ValueError("an nlvr2 fixture needs in/answers (or `answers` in its JSON)")
        return np.asarray(answers[0]).reshape(-1).astype(np.int32)
    for name in ("vqa_targets", "targets"):
        if name in inputs:
            return inputs[name]
    if "vqa_labels" not in info:
        return outputs["vqa_targets"]
    targets = np.zeros((batch_size, reference.fields["num_answers"]), np.float32)
    for row, (labels, scores) in enumerate(zip(info["vqa_labels"], info["vqa_scores"])):
        targets[row, labels] = scores
    return targets


def check_finetune(arrays, info, report):
    """Compares outputs, loss and the gradients that are stored.

    Raises:
        ValueError: names outputs that are not known.
    """
    reference, kind = Reference(arrays, info), info["kind"]
    params = reference.params("param")
    compare_inputs(reference, report, extra=("answers", "vqa_targets", "targets"))
    compare_buffers(reference, report)
    batch = {
        name: jnp.asarray(value) for name, value in official_batch(reference.group("in")).items()
    }
    truth = jnp.asarray(_truth(reference, kind, len(batch["token_ids"])))
    (_, ours), grads = step_gradients(params, reference.graphdef, kind, batch, truth)
    ours = {**{f"{kind}_{name}": value for name, value in ours.items()}, "total_loss": ours["loss"]}
    expected = reference.group("out")
    for name, value in expected.items():
        known = name.removeprefix("step/")
        if known in ours:
            report.compare(f"out/{name}", ours[known], value, OUTPUT_TOLERANCE)
    modes = [name for name in expected if name.removeprefix("step/") not in ours]
    for name, value in _mode_outputs(reference, params, batch, modes).items():
        report.compare(f"out/{name}", value, expected[name], OUTPUT_TOLERANCE)
    compare_gradients(reference, report, grads)


def _mode_outputs(reference, params, batch, names):
    """The outputs of single forward passes; passes over NLVR2's images are numbered from 0 or from
    1.
    """
    if "image_0" not in batch:
        return model_outputs(reference.graphdef, params, batch, tuple(names))
    found, numbers = {}, {name: re.fullmatch(r"(infer)_?(\d?)(/.*)", name) for name in names}
    unknown = sorted(name for name, match in numbers.items() if not match)
    if unknown:
        raise ValueError(f"outputs that are not known: {unknown}")
    first = 0 if any(match[2] == "0" for match in numbers.values()) else 1
    for image in (0, 1):
        wanted = {
            match[1] + match[3]: name
            for name, match in numbers.items()
            if int(match[2] or first) - first == image
        }
        inputs = {**batch, "image": batch[f"image_{image}"]}
        outputs = model_outputs(
            reference.graphdef, params, inputs, tuple(wanted), image_type=1 + image
        )
        found |= {wanted[name]: value for name, value in outputs.items()}
    return found
