"""Compares our BEiT with reference arrays: outputs, the loss of masked image modelling and every
gradient.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.input.images.block_masking import masked_positions
from vlmo_jax.interop.beit import from_beit, is_huggingface, to_beit
from vlmo_jax.layers.relative_position import image_index
from vlmo_jax.models.beit import BEiT
from vlmo_jax.objectives.masked_language import UNUSED, count_masked
from vlmo_jax.tasks.image_pretrain import ImagePretrainTask

OUTPUT_TOLERANCE = 2e-5
GRADIENT_TOLERANCE, GRADIENT_FLOOR = 1e-5, 1e-6


def check_beit(arrays, info, report):
    """Compares one fixture.

    Args:
        arrays: mapping name -> array of a `beit_*` fixture.
        info: its JSON.
        report: has `compare(name, ours, theirs, tolerance)`.

    Raises:
        ValueError: the arrays are no BEiT, or the way back to their names is not exact.
    """
    group = lambda prefix: {
        name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)
    }
    config, tensors = info["config"], group("param/")
    huggingface = is_huggingface(tensors)
    heads, epsilon = (
        ("num_attention_heads", "layer_norm_eps") if huggingface else ("heads", "ln_eps")
    )
    params, sizes, aside = from_beit(tensors, num_heads=config[heads])
    back = to_beit(params, sizes, aside, huggingface=huggingface)
    if set(back) != set(tensors) or any(
        not np.array_equal(back[name], tensors[name]) for name in tensors
    ):
        raise ValueError("the way back to the names of the fixture is not exact")
    with nnx.use_eager_sharding(False):
        graphdef = nnx.graphdef(
            BEiT(**sizes.model_fields(), norm_epsilon=config[epsilon], rngs=nnx.Rngs(0))
        )

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
    ours, theirs = to_beit(grads, sizes, huggingface=huggingface), group("grad/")
    if without := sorted(set(ours) - set(theirs) - set(info["params_without_grad"])):
        raise ValueError(f"the fixture holds no gradient of {without}")
    for name, value in theirs.items():
        tolerance = GRADIENT_TOLERANCE * float(np.abs(value).max()) + GRADIENT_FLOOR
        report.compare(f"grad/{name}", ours[name], value, tolerance)


def training_batch(arrays):
    """Our batch from the official one: images to NHWC, a mask to numbers of patches, labels to
    their places.
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
def outputs(graphdef, params, image, hidden):
    """The states after the final norm and the logits of all patches."""
    model = nnx.merge(graphdef, params)
    states = model.encode_image(image, hidden=hidden)
    return states, model.mim_head(states[:, 1:])


@functools.partial(jax.jit, static_argnums=1)
def loss_and_gradients(params, graphdef, batch):
    """((loss, metrics), gradients) of one step as stage 1 trains."""
    task = ImagePretrainTask(tokenizer=None, dropout=False)
    shared = count_masked(batch["mim_labels"])
    loss = lambda params: task.loss(nnx.merge(graphdef, params), batch, shared, jax.random.key(0))
    return jax.value_and_grad(loss, has_aux=True)(params)
