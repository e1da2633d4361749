"""Kind `beit_classify`: a BEiT that classifies: the states of its blocks, logits, losses and every
gradient.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.interop.beit_classifier import from_beit_classifier, to_beit_classifier
from vlmo_jax.interop.checks.reference import Arrays, Info, group, same_tensors
from vlmo_jax.interop.huggingface_beit import from_huggingface, is_huggingface
from vlmo_jax.layers.relative_position import image_index
from vlmo_jax.models.build import abstract_model, model_maker
from vlmo_jax.objectives.means import weighted_total
from vlmo_jax.tasks.classify import ClassifyTask

OUTPUT_TOLERANCE, STATE_TOLERANCE = 2e-5, 1e-4
GRADIENT_TOLERANCE, GRADIENT_FLOOR = 1e-4, 1e-6
KNOWN = ("logits", "pooled", "loss_smoothed", "loss_plain")


def check_beit_classify(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares one fixture.

    Args:
        arrays: mapping name -> array of a `beit_classify` fixture.
        info: its JSON.
        report: of interop.check.

    Raises:
        ValueError: the arrays are no classifier, the way back to their names is not exact, or the
            fixture holds what nothing here knows.
    """
    config, tensors = info["config"], group(arrays, "param")
    huggingface = is_huggingface(tensors)
    params, sizes, aside = from_beit_classifier(tensors, num_heads=config["num_attention_heads"])
    if not same_tensors(to_beit_classifier(params, sizes, aside, huggingface=huggingface), tensors):
        raise ValueError("the way back to the names of the fixture is not exact")
    if not same_tensors(to_beit_classifier(params, sizes, aside), from_huggingface(tensors)):
        raise ValueError("the way to the official names is not exact")
    fields = {**sizes.model_fields(), "num_classes": len(params["head"]["bias"])}
    del fields["vocab_size"]
    _compare_sizes(fields, config, report)
    make = model_maker(
        {"kind": "image_classifier", **fields}, norm_epsilon=config["layer_norm_eps"]
    )
    graphdef, _ = abstract_model(make)
    batch = {
        "image": jnp.asarray(arrays["in/pixel_values"].transpose(0, 2, 3, 1)),
        "label": jnp.asarray(arrays["in/labels"]),
    }
    params = jax.tree.map(jnp.asarray, params)
    report.compare(
        "buffer/relative_position_index",
        image_index(sizes.image_size // sizes.patch_size),
        arrays["buffer/relative_position_index"],
        0.0,
    )
    _compare_outputs(graphdef, params, batch, arrays, config["label_smoothing"], report)
    grads = jax.grad(smoothed_loss)(params, graphdef, batch, config["label_smoothing"])
    ours, theirs = to_beit_classifier(grads, sizes, huggingface=huggingface), group(arrays, "grad")
    report.compare_names("grad", ours, theirs)
    for name in sorted(set(ours) & set(theirs)):
        tolerance = GRADIENT_TOLERANCE * float(np.abs(theirs[name]).max()) + GRADIENT_FLOOR
        report.compare(f"grad/{name}", ours[name], theirs[name], tolerance)


def _compare_sizes(fields: Any, config: Info, report: Any) -> None:
    """What the shapes tell beside what the JSON says."""
    said = {
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "mlp_dim": "intermediate_size",
        "image_size": "image_size",
        "patch_size": "patch_size",
        "num_classes": "num_labels",
        "shared_table": "use_shared_relative_position_bias",
    }
    found = {name: fields[name] for name in said}
    report.compare_equal("sizes", found, {name: config[key] for name, key in said.items()})


def _compare_outputs(
    graphdef: nnx.GraphDef, params: Any, batch: Any, arrays: Arrays, smoothing: float, report: Any
) -> None:
    theirs = group(arrays, "out")
    states = {name for name in theirs if name.startswith("hidden/")}
    if unknown := sorted(set(theirs) - set(KNOWN) - states):
        raise ValueError(f"outputs that are not known: {unknown}; known: {', '.join(KNOWN)}")
    ours = outputs(graphdef, params, batch["image"])
    ours["loss_smoothed"] = smoothed_loss(params, graphdef, batch, smoothing)
    ours["loss_plain"] = smoothed_loss(params, graphdef, batch, 0.0)
    report.compare_names("out", ours, theirs)
    for name in sorted(set(ours) & set(theirs)):
        tolerance = STATE_TOLERANCE if name in states else OUTPUT_TOLERANCE
        report.compare(f"out/{name}", ours[name], theirs[name], tolerance)


@functools.partial(jax.jit, static_argnums=0)
def outputs(graphdef: nnx.GraphDef, params: Any, image: jax.Array) -> dict[str, jax.Array]:
    """Logits [B, K], pooled [B, D] and hidden/0 to hidden/depth [B, 1 + P, D], the embedding first.

    Args:
        graphdef: of an ImageClassifier.
        params: its parameters.
        image: [B, S, S, 3].
    """
    model = nnx.merge(graphdef, params)
    states = model.block_states(image, range(model.transformer.depth))
    hidden = [model.image_embedding(image), *states]
    named = {f"hidden/{number}": state for number, state in enumerate(hidden)}
    return {**named, "pooled": model.pool(image), "logits": model.class_logits(image)}


@functools.partial(jax.jit, static_argnums=(1, 3))
def smoothed_loss(params: Any, graphdef: nnx.GraphDef, batch: Any, smoothing: float) -> jax.Array:
    """The loss of a step as fine-tuning takes it, nothing mixed."""
    model = nnx.merge(graphdef, params)
    task = ClassifyTask(num_classes=model.head.kernel.shape[-1], smoothing=smoothing)
    prepared = task.prepare(batch, params, {}, {})
    sums = task.sums(model, prepared.batch, (), jax.random.key(0))
    return weighted_total(sums, task.counts(prepared.batch), task.weights)
