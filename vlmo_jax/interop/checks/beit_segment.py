"""Kind `beit_segment`: a BEiT with UperNet, in evaluation and in training: features, scales,
logits, losses, gradients, running statistics, and the class of each pixel.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.datasets.masks import IGNORED
from vlmo_jax.interop.beit_segmenter import (
    from_beit_segmenter,
    official_names,
    segmenter_fields,
    to_beit_segmenter,
)
from vlmo_jax.interop.checks.reference import Arrays, Info, group, same_tensors
from vlmo_jax.interop.huggingface_beit import is_huggingface
from vlmo_jax.layers.batch_norm import EPSILON, MOMENTUM, running_statistics
from vlmo_jax.layers.grids import resize_bilinear
from vlmo_jax.models.build import abstract_model, model_maker
from vlmo_jax.models.segmenter import ClassMaps, ImageSegmenter
from vlmo_jax.objectives.pixel_classes import pixel_losses
from vlmo_jax.tasks.protocols import SETTLED
from vlmo_jax.tasks.segment import AUXILIARY, MAIN, SegmentTask

TOLERANCES = {
    "feature": 2e-4,
    "neck": 2e-4,
    "neck_sums": 2e-3,
    "pyramid": 2e-4,
    "logits": 5e-5,
    "aux_logits": 5e-5,
    "hf_indexing_logits": 5e-5,
    "loss": 1e-5,
}
RUNNING_TOLERANCE = 1e-5
GRADIENT_TOLERANCE, GRADIENT_FLOOR = 3e-4, 1e-6
NEAR_TIE = 1e-3  # margin of the two likeliest classes of a pixel, below which either may win
HUGGINGFACE_EARLIER = 2  # blocks earlier HuggingFace reads the same numbers


def check_beit_segment(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares one fixture.

    Args:
        arrays: mapping name -> array of a `beit_segment` fixture.
        info: its JSON.
        report: of interop.check.

    Raises:
        ValueError: the arrays are no segmenter, the way back to their names is not exact, or the
            fixture holds what nothing here knows.
    """
    config = info["config"]
    tensors = {**group(arrays, "param"), **group(arrays, "buffer")}
    huggingface = is_huggingface(tensors)
    params, sizes, heads, aside = from_beit_segmenter(
        tensors, num_heads=config["num_attention_heads"]
    )
    if not same_tensors(to_beit_segmenter(params, sizes, aside, huggingface=huggingface), tensors):
        raise ValueError("the way back to the names of the fixture is not exact")
    if not same_tensors(
        official_names(to_beit_segmenter(params, sizes, aside)), official_names(tensors)
    ):
        raise ValueError("the way to the official names is not exact")
    fields = segmenter_fields(
        sizes, heads, blocks=tuple(config["blocks_used"]), parts=tuple(config["pool_scales"])
    )
    fields |= {
        "auxiliary_grid": config["auxiliary_in_feature"],
        "norm_epsilon": config["layer_norm_eps"],
    }
    _compare_sizes(fields, config, report)
    graphdef, _ = abstract_model(model_maker(fields))
    batch = {
        "image": jnp.asarray(arrays["in/pixel_values"].transpose(0, 2, 3, 1)),
        "mask": jnp.asarray(arrays["in/labels"]),
    }
    params = jax.tree.map(jnp.asarray, params)
    weight = config["auxiliary_weight"]
    evaluated, statistics = {}, {}
    for mode, learning in (("eval", False), ("train", True)):
        (_, (ours, moved)), grads = losses_and_gradients(params, graphdef, batch, weight, learning)
        named = to_beit_segmenter(grads, sizes, huggingface=huggingface)
        _compare_gradients(named, group(arrays, f"{mode}_grad"), mode, report)
        if learning:
            _compare_outputs(ours, group(arrays, mode), mode, report)
            after = nnx.traversals.flatten_mapping(params)
            after |= nnx.traversals.flatten_mapping(moved)
            statistics = to_beit_segmenter(
                nnx.traversals.unflatten_mapping(after), sizes, huggingface=huggingface
            )
        else:
            evaluated = ours
    evaluated |= inside(params, graphdef, batch)
    theirs = dict(group(arrays, "eval"))
    _compare_classes(evaluated["logits"], theirs.pop("argmax"), report)
    _compare_outputs(evaluated, theirs, "eval", report)
    theirs = group(arrays, "train_after")
    ours = {name: statistics[name] for name in statistics if ".running_" in name}
    report.compare_names("train_after", ours, theirs)
    for name in sorted(set(ours) & set(theirs)):
        report.compare(f"train_after/{name}", ours[name], theirs[name], RUNNING_TOLERANCE)


def _compare_sizes(fields: Mapping[str, Any], config: Info, report: Any) -> None:
    """What the shapes, and the constants here, tell beside what the JSON says."""
    said = {
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "mlp_dim": "intermediate_size",
        "image_size": "image_size",
        "patch_size": "patch_size",
        "num_classes": "num_labels",
        "head_channels": "head_channels",
        "auxiliary_channels": "auxiliary_channels",
    }
    found = {name: fields[name] for name in said}
    report.compare_equal("sizes", found, {name: config[key] for name, key in said.items()})
    norm = {"eps": EPSILON, "momentum": MOMENTUM}
    report.compare_equal("batch_norm", norm, dict(config["batch_norm"]))
    rules = {"align_corners": False, "ignore_index": IGNORED}
    report.compare_equal("rules", rules, {name: config[name] for name in rules})


@functools.partial(jax.jit, static_argnums=(1, 3, 4))
def losses_and_gradients(
    params: Any, graphdef: nnx.GraphDef, batch: Any, weight: float, learning: bool
) -> Any:
    """(loss, (logits and losses by name, running statistics)), gradients.

    Args:
        params: of an ImageSegmenter.
        graphdef: of it.
        batch: image and mask.
        weight: of the auxiliary loss.
        learning: normalise by the batch, as a step of training does.
    """

    def losses(params: Any) -> Any:
        model = nnx.merge(graphdef, params)
        maps = model.classify(model.features(batch["image"], model.blocks), learning=learning)
        found = _losses(maps, batch["mask"], weight)
        logits = {"logits": maps.main, "aux_logits": maps.auxiliary}
        return found["loss"], ({**found, **logits}, running_statistics(model))

    if not learning:
        return jax.value_and_grad(losses, has_aux=True)(params)
    # As a step of training takes them.
    task = SegmentTask(auxiliary_weight=weight)
    counts = task.counts(batch)

    def trained(params: Any) -> Any:
        sums = task.sums(nnx.merge(graphdef, params), batch, (), jax.random.key(0))
        main, auxiliary = (sums[name] / counts[name] for name in (MAIN, AUXILIARY))
        moved = jax.tree.map(lambda x: x / counts[SETTLED], sums[SETTLED])
        loss = main + weight * auxiliary
        return loss, ({"loss": loss, "loss_main": main, "loss_aux": auxiliary}, moved)

    (loss, (found, moved)), grads = jax.value_and_grad(trained, has_aux=True)(params)
    maps = nnx.merge(graphdef, params).learn_class_maps(batch["image"])
    logits = {"logits": maps.main, "aux_logits": maps.auxiliary}
    return (loss, ({**found, **logits}, moved)), grads


def _losses(maps: ClassMaps, labels: jax.Array, weight: float) -> dict[str, jax.Array]:
    height, width = labels.shape[1:]
    main, _ = pixel_losses(resize_bilinear(maps.main, (height, width)), labels)
    auxiliary, _ = pixel_losses(resize_bilinear(maps.auxiliary, (height, width)), labels)
    labelled = (labels != IGNORED).sum()
    return {
        "loss": (main + weight * auxiliary) / labelled,
        "loss_main": main / labelled,
        "loss_aux": auxiliary / labelled,
        "loss_main_mean_over_all_pixels": main / labels.size,
        "loss_aux_mean_over_all_pixels": auxiliary / labels.size,
    }


@functools.partial(jax.jit, static_argnums=1)
def inside(params: Any, graphdef: nnx.GraphDef, batch: Any) -> dict[str, jax.Array]:
    """What stands between image and logits in evaluation, these, and the logits of blocks read as
    HuggingFace numbers them.
    """
    model: ImageSegmenter = nnx.merge(graphdef, params)
    features = model.features(batch["image"], model.blocks)
    scales = model.scales(features)
    earlier = [max(block - HUGGINGFACE_EARLIER, -1) for block in model.blocks]
    named = {f"feature/{number}": grid for number, grid in enumerate(features)}
    named |= {f"neck/{number}": grid for number, grid in enumerate(scales)}
    named["neck_sums"] = jnp.stack([grid.sum((1, 2)) for grid in scales])
    maps = model.classify(features)
    named |= {"logits": maps.main, "aux_logits": maps.auxiliary}
    named["pyramid"] = model.head.pyramid(scales[-1])
    named["hf_indexing_logits"] = model.classify(model.features(batch["image"], earlier)).main
    return named


def _compare_outputs(ours: Any, theirs: Arrays, mode: str, report: Any) -> None:
    if unknown := sorted(set(theirs) - set(ours)):
        raise ValueError(f"outputs that are not known: {unknown}; known: {', '.join(ours)}")
    wanted = {"logits", "aux_logits", "loss", "loss_main", "loss_aux"}
    report.compare_names(mode, dict.fromkeys(wanted | set(theirs), 0), theirs)
    for name in sorted(theirs):
        value = np.asarray(ours[name])
        if value.ndim == 4:
            value = value.transpose(0, 3, 1, 2)
        kind = "loss" if name.startswith("loss") else name.partition("/")[0]
        report.compare(f"{mode}/{name}", value, theirs[name], TOLERANCES[kind])


def _compare_gradients(ours: Any, theirs: Arrays, mode: str, report: Any) -> None:
    """Some are stored; of those that are, none may be unknown here."""
    known = {name: value for name, value in ours.items() if ".running_" not in name}
    if unknown := sorted(set(theirs) - set(known)):
        raise ValueError(f"gradients that are not known: {unknown}")
    for name, value in sorted(theirs.items()):
        tolerance = GRADIENT_TOLERANCE * float(np.abs(value).max()) + GRADIENT_FLOOR
        report.compare(f"{mode}_grad/{name}", known[name], value, tolerance)


def _compare_classes(logits: jax.Array, classes: np.ndarray, report: Any) -> None:
    """The likeliest class of each pixel, save near ties."""
    at_pixels = np.asarray(resize_bilinear(jnp.asarray(logits), classes.shape[1:]))
    best = np.sort(at_pixels, axis=-1)
    clear = best[..., -1] - best[..., -2] >= NEAR_TIE
    other = int(np.sum((at_pixels.argmax(-1) != classes) & clear))
    report.compare_equal("eval/argmax, pixels that differ", other, 0)
