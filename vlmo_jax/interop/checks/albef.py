"""Kinds `albef` and `albef_momentum_after`: one step of pre-training, its gradients, and the queues
and momentum towers after it.
"""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.input.schema import UNUSED
from vlmo_jax.interop.albef_names import albef_places, momentum_name
from vlmo_jax.interop.checks.reference import (
    IGNORED_LABEL,
    OUTPUT_TOLERANCE,
    Arrays,
    Info,
    Reference,
    group,
    load_fixture,
    same_tensors,
)
from vlmo_jax.interop.places import empty_places, fill_places
from vlmo_jax.interop.vit import join_biases, split_biases
from vlmo_jax.models.albef_fields import PRETRAIN_HEADS
from vlmo_jax.models.build import abstract_model, model_maker
from vlmo_jax.objectives.means import shares, weighted_total
from vlmo_jax.tasks.albef_pretrain import AlbefPretrainTask, Negatives, followed

GRADIENT_TOLERANCE, GRADIENT_FLOOR = 1e-5, 1e-6
MOMENTUM_TOLERANCE = 1e-6  # of towers after an update, a product and a sum in float32
_INPUTS = ("image", "input_ids", "attention_mask", "mlm_input_ids", "mlm_labels")


class AlbefReference:
    """An ALBEF fixture: arrays, sizes, our model, and the map between its parameters and ours.

    Args:
        arrays: name -> array, of `load_fixture`.
        info: the JSON's values.

    Attributes:
        places: official name -> Place.
        graphdef: of our model.
        task: of the step.

    Raises:
        ValueError: there are no parameters.
    """

    def __init__(self, arrays: Arrays, info: Info) -> None:
        self.arrays, self.info = arrays, info
        albef, bert, vit = (info["config"][name] for name in ("albef", "bert", "vit"))
        width = bert["hidden_size"]
        fields = dict(
            image_size=albef["image_res"],
            patch_size=vit["patch"],
            vision_width=vit["dim"],
            vision_depth=vit["depth"],
            vision_num_heads=vit["heads"],
            vision_mlp_dim=round(vit["dim"] * vit["mlp_ratio"]),
            text_length=bert["max_position_embeddings"],
            text_positions=bert["max_position_embeddings"],
            vocab_size=bert["vocab_size"],
            width=width,
            num_heads=bert["num_attention_heads"],
            mlp_dim=bert["intermediate_size"],
            depth=bert["fusion_layer"],
            fusion_depth=bert["num_hidden_layers"] - bert["fusion_layer"],
            embed_dim=albef["embed_dim"],
            heads=PRETRAIN_HEADS,
        )
        if not group(arrays, "param"):
            raise ValueError("the fixture holds no parameters param/...")
        self.places = albef_places(fields)
        self.graphdef, self.abstract = abstract_model(model_maker({"kind": "albef", **fields}))
        self.task = AlbefPretrainTask(
            self.graphdef,
            momentum=albef["momentum"],
            queue_size=albef["queue_size"],
            alpha=info["config"]["alpha"],
        )

    def params(self) -> tuple[dict, dict]:
        """The parameters, and those of the model with the momentum towers in it, in our layout.

        Raises:
            ValueError: they do not fit, or the way back to their names is not exact.
        """
        tensors = group(self.arrays, "param")
        online = self._read(tensors, {name: name for name in self.places}, "param")
        names = {name: momentum_name(name) for name in self.places}
        momentum = self._read(tensors, names, "param of the momentum towers")
        known = join_biases({name: np.zeros(3) for name in (*names, *names.values())})
        if unknown := sorted(set(tensors) - set(known)):
            raise ValueError(f"param/ holds tensors that are not known: {unknown}")
        return online, momentum

    def _read(self, tensors, names, what):
        """Our parameters, from tensors by other names."""
        split = split_biases(tensors)
        if missing := sorted(set(names.values()) - set(split)):
            raise ValueError(f"{what}: the fixture lacks {missing}")
        found = {name: split[theirs] for name, theirs in names.items()}
        params = fill_places(found, self.places)
        if not same_tensors(empty_places(params, self.places), found):
            raise ValueError(f"{what}: the way back to the official names is not exact")
        return Reference.checked(params, self.abstract, what)

    def official(self, params: Any) -> dict[str, np.ndarray]:
        """Tensors by official name of parameters, or of gradients, in our layout."""
        return join_biases(empty_places(params, self.places))

    def extra(self, momentum: Any) -> dict[str, Any]:
        """The state of the task before the step."""
        queue = lambda name: jnp.asarray(self.arrays[f"buffer/{name}"].T)
        return {
            "momentum": followed(momentum),
            "image_queue": queue("image_queue"),
            "text_queue": queue("text_queue"),
            "pointer": jnp.asarray(self.arrays["buffer/queue_ptr"][0], jnp.int32),
            "steps": jnp.zeros((), jnp.int32),
        }

    def batch(self) -> dict[str, jax.Array]:
        """Our batch from the official inputs."""
        arrays, labels = self.arrays, self.arrays["mlm_labels"]
        masked = labels != IGNORED_LABEL
        batch = {
            "image": arrays["image"].transpose(0, 2, 3, 1),
            "token_ids": arrays["input_ids"],
            "token_mask": arrays["attention_mask"] > 0,
            "mlm_token_ids": arrays["mlm_input_ids"],
            # Every place of the text, so that the logits of all can be compared.
            "mlm_positions": np.broadcast_to(np.arange(labels.shape[1]), labels.shape),
            "mlm_labels": np.where(masked, labels, UNUSED),
        }
        return {name: jnp.asarray(value) for name, value in batch.items()}


def step_outputs(
    params: Any,
    task: AlbefPretrainTask,
    batch: dict[str, jax.Array],
    extra: dict[str, Any],
    negatives: Negatives | None,
) -> tuple[jax.Array, dict[str, Any]]:
    """Losses, states and logits of one step by their official names.

    Args:
        params: of our model.
        task: of the fixture.
        batch, extra: of AlbefReference.
        negatives: rows; None: drawn.

    Returns:
        The total loss, and values by name.
    """
    prepared = task.prepare(batch, jax.lax.stop_gradient(params), extra, {})
    model = nnx.merge(task.graphdef, params)
    momentum = nnx.merge(task.graphdef, prepared.context.momentum)
    batch, context = dict(prepared.batch), prepared.context
    features = task.features(model, batch, None)
    contrast, drawn, metrics = task.contrast(features, batch, context, jax.random.key(0))
    rows = drawn if negatives is None else negatives
    states, pairs = task.fused_rows(features, batch, rows)
    sums, counts = task.fused_sums(model, states, pairs, context, None), task.counts(pairs)
    fused = shares(sums, counts)
    total = contrast + weighted_total(sums, counts, task.weights)
    matched = task.fused_states(model, states, pairs)
    negative = jnp.concatenate([matched[:, 1], matched[:, 2]])
    first = jnp.concatenate([matched[:, number, 0] for number in range(3)])
    joined = [
        [jnp.concatenate(part, axis=1) for part in both]
        for both in (
            task.similarities(features, batch, context),
            task.targets(features, batch, context),
        )
    ]
    mask, masked = batch["token_mask"], batch["mlm_token_ids"]
    words = model.fuse(model.encode_text(masked, mask), mask, features.image_states)
    return total, {
        "total_loss": total,
        "loss_mlm": fused["mlm_loss"],
        "loss_ita": metrics["itc_loss"],
        "loss_itm": fused["itm_loss"],
        "image_embeds": features.image_states,
        "text_embeds": features.text_states,
        "image_feat": features.image,
        "text_feat": features.text,
        "image_embeds_m": momentum.encode_image(batch["image"]),
        "image_feat_m": batch["momentum_image"],
        "text_feat_m": batch["momentum_text"],
        "mlm_logits": model.predict_words(words),
        "mlm_logits_m": momentum.predict_words(batch["momentum_words"]),
        "fusion_pos": matched[:, 0],
        "fusion_neg": negative,
        "itm_cls_embeddings": first,
        "itm_logits": model.match_logits(first),
        "temp_after_clamp": features.temperature,
        "sim_i2t": joined[0][0],
        "sim_t2i": joined[0][1],
        "sim_i2t_targets": joined[1][0],
        "sim_t2i_targets": joined[1][1],
        "after/image_queue": prepared.extra["image_queue"].T,
        "after/text_queue": prepared.extra["text_queue"].T,
        "after/queue_ptr": prepared.extra["pointer"][None],
    }


step_gradients = jax.jit(jax.value_and_grad(step_outputs, has_aux=True), static_argnums=1)


def check_albef(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares states, logits and losses of a step, the gradient of every parameter, and the queues
    after it.

    Raises:
        ValueError: arrays that are not known, or that are missing.
    """
    reference = AlbefReference(arrays, info)
    params, momentum = reference.params()
    batch = reference.batch()
    _compare_inputs(reference, report)
    rows = len(batch["token_ids"])
    negatives = None
    # A batch of two forces the negatives; a larger one needs those that the reference drew.
    if rows != 2:
        negatives = Negatives(
            *(jnp.asarray(arrays[name]) for name in ("neg_image_idx", "neg_text_idx"))
        )
    (_, ours), grads = step_gradients(
        params, reference.task, batch, reference.extra(momentum), negatives
    )
    prefixes = ("param/", "grad/", "buffer/")
    expected = [
        name
        for name in arrays
        if not name.startswith(prefixes) and name not in (*_INPUTS, "neg_image_idx", "neg_text_idx")
    ]
    if unknown := sorted(set(expected) - set(ours)):
        raise ValueError(f"the fixture holds outputs that are not known: {unknown}")
    for name in expected:
        report.compare(name, ours[name], arrays[name], OUTPUT_TOLERANCE)
    _compare_gradients(reference, grads, report)


def _compare_inputs(reference: AlbefReference, report: Any) -> None:
    """What the inputs say twice: the text without masks, and where the pointer stands."""
    arrays, labels = reference.arrays, reference.arrays["mlm_labels"]
    whole = np.where(labels != IGNORED_LABEL, labels, arrays["mlm_input_ids"])
    report.compare("input_ids", whole, arrays["input_ids"], 0.0)
    pointer = reference.info["config"]["queue_ptr_before"]
    report.compare("buffer/queue_ptr", [pointer], arrays["buffer/queue_ptr"], 0.0)


def _compare_gradients(reference: AlbefReference, grads: Any, report: Any) -> None:
    ours, theirs = reference.official(grads), group(reference.arrays, "grad")
    without = set(reference.info.get("params_without_grad", ()))
    report.compare_equal("number of grad/*", len(theirs), reference.info["n_grad_arrays"])
    if unknown := sorted(set(theirs) - set(ours)):
        raise ValueError(f"the fixture holds gradients of parameters that are not known: {unknown}")
    # Of biases of keys the gradient is zero but for rounding.
    zero = reference.info.get("float32_vs_float64", {}).get(
        "grads_mathematically_zero_rounding_only", ()
    )
    for name, value in theirs.items():
        largest = 0.0 if f"grad/{name}" in zero else float(np.abs(value).max(initial=0.0))
        tolerance = GRADIENT_TOLERANCE * largest + GRADIENT_FLOOR
        report.compare(f"grad/{name}", ours[name], value, tolerance)
    for name in sorted(without & set(ours)):
        report.compare(f"no grad/{name}", ours[name], np.zeros(ours[name].shape), 0.0)


def join_step_before(
    path: pathlib.Path, arrays: Arrays, info: Info
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A fixture of kind `albef_momentum_after` with the one that it comes after.

    Args:
        path: of the fixture NAME_momentum_after, beside which NAME, or one other of kind `albef`,
            lies.
        arrays, info: of the fixture.

    Returns:
        Arrays and values as `check_momentum_after` reads them.

    Raises:
        FileNotFoundError: there is no such fixture.
    """
    named = path.with_name(path.stem.removesuffix("_momentum_after") + ".json")
    beside = [named, *sorted(path.parent.glob("*.json"))]
    for file in beside:
        if file.is_file() and file.with_suffix(".npz").is_file():
            before, info_before = load_fixture(file)
            if info_before.get("kind") == "albef":
                kept = {name: before[name] for name in before if not name.startswith("after/")}
                return {**kept, **arrays}, {**info, "before": info_before}
    raise FileNotFoundError(
        f"{path}: the momentum towers come from those of the step before, which are in a fixture of"
        f" kind albef; put it beside this one as {named.name} with its .npz"
    )


def check_momentum_after(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares the momentum towers after a step.

    Args:
        arrays: after/*, and param/* of the fixture before the step, which lies beside it.
        info: the JSON's values, those of the fixture before it under `before`.
        report: of interop.check.

    Raises:
        ValueError: towers that are not known.
    """
    reference = AlbefReference(arrays, info["before"])
    params, momentum = reference.params()
    update = functools.partial(
        reference.task.prepare, reference.batch(), extra=reference.extra(momentum), frozen={}
    )
    context = jax.jit(lambda params: update(params=params).context)(params)
    official = reference.official(context.momentum)
    towers = {momentum_name(name): value for name, value in official.items()}
    expected = group(arrays, "after")
    report.compare_equal("momentum", reference.task.momentum, info["momentum"])
    listed = [name.removeprefix("after/") for name in info.get("arrays", ())]
    report.compare_names("after/*", expected, listed)
    if unknown := sorted(set(expected) - set(towers)):
        raise ValueError(f"the fixture holds towers that are not known: {unknown}")
    for name, value in expected.items():
        report.compare(f"after/{name}", towers[name], value, MOMENTUM_TOLERANCE)
