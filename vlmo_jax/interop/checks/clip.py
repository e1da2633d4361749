"""Kind `clip`: states, vectors, logits, loss and every gradient of a CLIP."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.interop.checks.reference import Arrays, Info, group, same_tensors
from vlmo_jax.interop.clip import from_clip, to_clip
from vlmo_jax.models.build import abstract_model, model_maker
from vlmo_jax.tasks.retrieval_finetune import RetrievalTask

OUTPUT_TOLERANCE = 2e-5
GRADIENT_TOLERANCE, GRADIENT_FLOOR = 1e-5, 1e-6


def check_clip(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares one fixture.

    Args:
        arrays: mapping name -> array.
        info: its JSON.
        report: has `compare(name, ours, theirs, tolerance)`.

    Raises:
        ValueError: the arrays are no CLIP, they do not have the sizes of the JSON, or the way back
            to their names is not exact.
    """
    fields, params, spelling = _model_of(arrays, info)
    batch = {
        "image": jnp.asarray(arrays["pixel_values"].transpose(0, 2, 3, 1)),
        "token_ids": jnp.asarray(arrays["input_ids"]),
    }
    last = arrays["input_ids"].argmax(axis=1)  # the end token has the largest id
    mask = np.arange(arrays["input_ids"].shape[1]) <= last[:, None]
    batch["token_mask"] = jnp.asarray(mask)
    if "attention_mask_unused" in arrays:
        report.compare("attention_mask_unused", mask, arrays["attention_mask_unused"], 0.0)
    ours = _outputs(_graphdef(fields), params, batch)
    if any(name.startswith(_OTHER) for name in arrays):
        found = _outputs(_graphdef({**fields, "activation": "gelu"}), params, batch)
        ours |= {f"{_OTHER}{name}": value for name, value in found.items()}
    for name, value in arrays.items():
        if not name.startswith(("param/", "grad/")) and name not in _INPUTS:
            plain = name.removeprefix("openai/")
            if name.startswith("openai/") and not plain.startswith("logits"):
                plain = f"{plain}_unnormalised"
            if plain not in ours:
                raise ValueError(f"{name} is not known; known: {', '.join(sorted(ours))}")
            report.compare(name, ours[plain], value, OUTPUT_TOLERANCE)
    grads = to_clip(_gradients(_graphdef(fields), params, batch), fields, spelling)
    _compare_gradients(arrays, info, report, grads)


_OTHER = "alt_exact_gelu/"  # outputs of the same weights with another activation
_INPUTS = ("pixel_values", "input_ids", "attention_mask_unused")


def _model_of(arrays: Arrays, info: Info) -> tuple[dict[str, Any], dict, str]:
    """Fields of `config.model`, parameters, and how theirs are spelled."""
    text, vision = info["config"]["text"], info["config"]["vision"]
    heads = vision["num_attention_heads"], text["num_attention_heads"]
    tensors = group(arrays, "param")
    params, sizes, aside, spelling = from_clip(tensors, num_heads=heads)
    told = {
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "depth": vision["num_hidden_layers"],
        "text_depth": text["num_hidden_layers"],
        "text_length": text["max_position_embeddings"],
        "embed_dim": info["config"]["projection_dim"],
    }
    if other := {name: value for name, value in told.items() if sizes[name] != value}:
        raise ValueError(f"the JSON says {other}, the arrays { {k: sizes[k] for k in other} }")
    if not same_tensors({**to_clip(params, sizes, spelling), **aside}, tensors):
        raise ValueError("the way back to the names of the fixture is not exact")
    fields = {
        "kind": "clip",
        **sizes,
        "activation": vision["hidden_act"],
        "norm_epsilon": vision["layer_norm_eps"],
    }
    return fields, jax.tree.map(jnp.asarray, params), spelling


def _graphdef(fields: dict[str, Any]) -> nnx.GraphDef:
    return abstract_model(model_maker(fields))[0]


@functools.partial(jax.jit, static_argnums=0)
def _outputs(graphdef: nnx.GraphDef, params: Any, batch: dict[str, jax.Array]) -> dict:
    """What the model says, by the names of the fixture."""
    model = nnx.merge(graphdef, params)
    image, ids, mask = batch["image"], batch["token_ids"], batch["token_mask"]
    vectors = model.image_vector(image), model.text_vector(ids, mask)
    features = RetrievalTask().features(model, {**batch, "image": image}, None)
    loss, _, _ = RetrievalTask().contrast(features, batch, (), jax.random.key(0))
    logits = jnp.exp(features.logit_scale) * features.image @ features.text.T
    return {
        "vision_last_hidden": model.encode_image(image),
        "text_last_hidden": model.text_norm(model.encode_text(ids)),
        "vision_pooled": vectors[0],
        "text_pooled": vectors[1],
        "image_features_unnormalised": model.itc.image(vectors[0]),
        "text_features_unnormalised": model.itc.text(vectors[1]),
        "image_embeds": features.image,
        "text_embeds": features.text,
        "logits_per_image": logits,
        "logits_per_text": logits.T,
        "loss": loss,
    }


@functools.partial(jax.jit, static_argnums=0)
def _gradients(graphdef: nnx.GraphDef, params: Any, batch: dict[str, jax.Array]) -> Any:
    """Of the loss that a run learns by."""
    task = RetrievalTask()

    def loss(params: Any) -> jax.Array:
        features = task.features(nnx.merge(graphdef, params), batch, None)
        return task.contrast(features, batch, (), jax.random.key(0))[0]

    return jax.grad(loss)(params)


def _compare_gradients(arrays: Arrays, info: Info, report: Any, ours: Arrays) -> None:
    theirs = group(arrays, "grad")
    if without := sorted(set(ours) - set(theirs) - set(info["params_without_grad"])):
        raise ValueError(f"the fixture holds no gradient of {without}")
    for name, value in theirs.items():
        tolerance = GRADIENT_TOLERANCE * float(np.abs(value).max()) + GRADIENT_FLOOR
        report.compare(f"grad/{name}", ours[name], value, tolerance)
