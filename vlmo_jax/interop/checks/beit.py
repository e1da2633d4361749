"""Compares our BEiT with reference arrays: outputs, the loss of masked image modelling and every
gradient.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.input.images.block_masking import masked_positions
from vlmo_jax.input.schema import UNUSED
from vlmo_jax.interop.beit import from_beit, to_beit
from vlmo_jax.interop.checks.reference import Arrays, Info, group, same_tensors
from vlmo_jax.interop.huggingface_beit import is_huggingface
from vlmo_jax.layers.relative_position import image_index
from vlmo_jax.models.build import abstract_model, model_maker
from vlmo_jax.objectives.means import shares, weighted_total
from vlmo_jax.tasks.image_pretrain import ImagePretrainTask

OUTPUT_TOLERANCE = 2e-5
GRADIENT_TOLERANCE, GRADIENT_FLOOR = 1e-5, 1e-6


def check_beit(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares one fixture.

    Args:
        arrays: mapping name -> array of a `beit_*` fixture.
        info: its JSON.
        report: has `compare(name, ours, theirs, tolerance)`.

    Raises:
        ValueError: the arrays are no BEiT, or the way back to their names is not exact.
    """
    config, tensors = info["config"], group(arrays, "param")
    huggingface = is_huggingface(tensors)
    if huggingface:
        num_heads, epsilon = config["num_attention_heads"], config["layer_norm_eps"]
    else:
        num_heads, epsilon = config["heads"], config["ln_eps"]
    params, sizes, aside = from_beit(tensors, num_heads=num_heads)
    if not same_tensors(to_beit(params, sizes, aside, huggingface=huggingface), tensors):
        raise ValueError("the way back to the names of the fixture is not exact")
    fields = {"kind": "beit", **sizes.model_fields()}
    graphdef, _ = abstract_model(model_maker(fields, norm_epsilon=epsilon))

    batch = training_batch(arrays)
    report.compare(
        "relative_position_index",
        image_index(sizes.image_size // sizes.patch_size),
        arrays["relative_position_index"],
        0.0,
    )
    params = jax.tree.map(jnp.asarray, params)
    states, logits = outputs(graphdef, params, batch["image"], arrays["bool_masked_pos"])
    if "hidden_after_norm" in arrays:
        report.compare("hidden_after_norm", states, arrays["hidden_after_norm"], OUTPUT_TOLERANCE)
    report.compare("logits", logits, arrays["logits"], OUTPUT_TOLERANCE)
    (loss, _), grads = loss_and_gradients(params, graphdef, batch)
    report.compare("loss", loss, arrays["loss"], OUTPUT_TOLERANCE)
    ours, theirs = to_beit(grads, sizes, huggingface=huggingface), group(arrays, "grad")
    if without := sorted(set(ours) - set(theirs) - set(info["params_without_grad"])):
        raise ValueError(f"the fixture holds no gradient of {without}")
    for name, value in theirs.items():
        tolerance = GRADIENT_TOLERANCE * float(np.abs(value).max()) + GRADIENT_FLOOR
        report.compare(f"grad/{name}", ours[name], value, tolerance)


def training_batch(arrays: Arrays) -> dict[str, jax.Array]:
    """Our batch from the official one: images to NHWC, a mask to numbers of patches, labels to
    their places.

    Args:
        arrays: of a `beit_*` fixture.

    Returns:
        image [B, S, S, 3] float32, masked_positions and mim_labels [B, most masked patches] int32.
    """
    hidden, labels = arrays["bool_masked_pos"], arrays["labels_all"]
    size = int(hidden.sum(axis=1).max())
    positions = np.stack([masked_positions(row, size) for row in hidden])
    picked = np.take_along_axis(labels, np.maximum(positions, 0), axis=1)
    return {
        "image": jnp.asarray(arrays["pixel_values"].transpose(0, 2, 3, 1)),
        "masked_positions": jnp.asarray(positions),
        "mim_labels": jnp.asarray(np.where(positions < 0, UNUSED, picked).astype(np.int32)),
    }


@functools.partial(jax.jit, static_argnums=0)
def outputs(
    graphdef: nnx.GraphDef, params: Any, image: jax.Array, hidden: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The states after the final norm [B, 1 + P, D] and the logits of all patches [B, P, V].

    Args:
        graphdef: of our model.
        params: its parameters.
        image: [B, S, S, 3].
        hidden: patches that the mask token stands for, [B, P] bool.
    """
    model = nnx.merge(graphdef, params)
    states = model.encode_image(image, hidden=hidden)
    return states, model.mim_head(states[:, 1:])


@functools.partial(jax.jit, static_argnums=1)
def loss_and_gradients(params: Any, graphdef: nnx.GraphDef, batch: dict[str, jax.Array]) -> Any:
    """((loss, metrics), gradients) of one step as stage 1 trains."""
    task = ImagePretrainTask(visual_tokenizer=None, dropout=False)
    counts = task.counts(batch)

    def loss(params: Any) -> Any:
        sums = task.sums(nnx.merge(graphdef, params), batch, (), jax.random.key(0))
        return weighted_total(sums, counts, task.weights), shares(sums, counts)

    return jax.value_and_grad(loss, has_aux=True)(params)
