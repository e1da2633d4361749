"""Kinds `vilt` and `vilt_ipot`: one step of ViLT's pre-training, and its alignment of words with
patches alone.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.interop.checks.reference import (
    GRADIENT_FLOOR,
    OUTPUT_TOLERANCE,
    Arrays,
    Info,
    Reference,
    group,
    official_batch,
    same_tensors,
)
from vlmo_jax.interop.vilt import from_vilt, to_vilt
from vlmo_jax.layers.patch_grid import PatchGrid, all_patches
from vlmo_jax.models.build import abstract_model, model_maker
from vlmo_jax.models.vilt import ViLT
from vlmo_jax.objectives.means import shares, weighted_total
from vlmo_jax.objectives.word_patch import cosine_costs, transport_distance, transport_plan
from vlmo_jax.tasks.vilt_pretrain import MATCHED, OTHER, ViltPretrainTask, word_places

GRADIENT_TOLERANCE = 1e-5  # of a tensor's largest entry, beside the floor

# Arrays of a step that are given to it.
INPUTS = (
    "image",
    "false_image_0",
    "text_ids",
    "text_masks",
    "text_ids_mlm",
    "text_labels_mlm",
    "itm_randperm",
)


def _valid_grid(images: np.ndarray, patch: int) -> np.ndarray:
    """Rows and columns of patches that official images [B, 3, H, W] have: those with pixels that
    are not 0, counted along their first column and row as the official code does.
    """
    shown = (images.sum(axis=1) != 0)[:, ::patch, ::patch]
    return np.stack([shown[:, :, 0].sum(1), shown[:, 0].sum(1)], axis=1).astype(np.int32)


def _batch(arrays: Arrays, patch: int) -> dict[str, np.ndarray]:
    """Our batch with the pairs of the matching pass as the reference has drawn them."""
    batch = official_batch(arrays)
    size = len(batch["token_ids"])
    matched = (np.arange(size) < size // 2)[arrays["itm_randperm"]]
    false = arrays["false_image_0"]
    images = {"": arrays["image"]}
    images[OTHER] = np.where(matched[:, None, None, None], images[""], false)
    batch[MATCHED] = matched
    for prefix, image in images.items():
        batch[f"{prefix}image"] = image.transpose(0, 2, 3, 1)
        batch[f"{prefix}image_grid"] = _valid_grid(image, patch)
    return batch


def step_outputs(
    params: Any, graphdef: nnx.GraphDef, batch: dict[str, jax.Array]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The total loss of a step, and losses, logits and states by their official names."""
    model, task = nnx.merge(graphdef, params), ViltPretrainTask()
    sums, counts = task.sums(model, batch, (), jax.random.key(0)), task.counts(batch)
    losses = shares(sums, counts)
    total = weighted_total(sums, counts, task.weights)
    mask = batch["token_mask"]
    out: dict[str, jax.Array] = {}
    passes = (("mlm", "", "mlm_token_ids"), ("itm", OTHER, "token_ids"))
    for name, prefix, text in passes:
        image = PatchGrid(batch[f"{prefix}image"], batch[f"{prefix}image_grid"])
        states = model.encode_pair(image, batch[text], mask)
        out |= {
            f"{name}_text_feats": states.text,
            f"{name}_image_feats": states.image,
            f"{name}_image_masks": states.image_mask,
            f"{name}_cls_feats": model.pooler(states.text[:, 0]),
        }
        if name == "mlm":
            out["mlm_logits"] = model.predict_words(states.text)
            out |= _embedded(model, image, batch["token_ids"])
    words, patches = word_places(mask), states.image_mask.at[:, 0].set(False)
    cost = cosine_costs(states.text, states.image, words, patches)
    return total, out | {
        "total_loss": total,
        "mlm_loss": losses["mlm_loss"],
        "itm_loss": losses["itm_loss"],
        "itm_wpa_loss": task.wpa_weight * losses["wpa_loss"],
        "itm_logits": model.match_logits(states.text[:, 0]),
        "itm_labels": batch[MATCHED],
        "wpa_cost": cost,
        "wpa_T": transport_plan(cost, words, patches),
        "wpa_distance": transport_distance(states.text, states.image, words, patches),
        "wpa_txt_pad": ~words,
        "wpa_img_pad": ~patches,
    }


def _embedded(model: ViLT, image: PatchGrid, token_ids: jax.Array) -> dict[str, jax.Array]:
    """What the Transformer reads, before modality types are added."""
    patches = all_patches(image.grid, model.most_patches)
    ones = jnp.ones_like(patches.mask[:, :1])
    return {
        "visual_embed": model.image_embedding.embed(image, patches),
        "visual_embed_mask": jnp.concatenate([ones, patches.mask], axis=1),
        "text_embed_before_type": model.text_embedding(token_ids),
    }


step_gradients = jax.jit(jax.value_and_grad(step_outputs, has_aux=True), static_argnums=1)


def _compare_patches(report: Any, name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Compares what has a row, or a column, for each patch: as many as both have, and beyond them
    ours are padding.
    """
    fit = tuple(slice(0, min(a, b)) for a, b in zip(ours.shape, theirs.shape, strict=True))
    report.compare(name, ours[fit], theirs, OUTPUT_TOLERANCE)


def check_vilt(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares states, logits, losses and gradients of one step.

    Raises:
        ValueError: parameters that are no ViLT of the sizes in the JSON, or an output that is not
            known.
    """
    sizes, tensors = info["sizes"], group(arrays, "param")
    params, fields, _ = from_vilt(tensors, num_heads=sizes["heads"])
    if not same_tensors(to_vilt(params, fields), tensors):
        raise ValueError("param: the way back to the official names is not exact")
    batch = _batch(arrays, sizes["patch"])
    most = max(batch[f"{prefix}image_grid"].prod(axis=1).max() for prefix in ("", OTHER))
    longest = sizes["patch"] * math.ceil(most / (sizes["img"] // sizes["patch"]))
    fields |= dict(kind="vilt", longest_side=longest)
    graphdef, abstract = abstract_model(model_maker(fields))
    params = Reference.checked(params, abstract, "param")
    report.compare_equal("sizes", _told(fields), _told(sizes))
    batch = jax.tree.map(jnp.asarray, batch)
    labels = arrays["text_labels_mlm"]
    whole = np.where(labels >= 0, labels, arrays["text_ids_mlm"])
    report.compare("text_ids", whole, arrays["text_ids"], 0.0)

    (_, ours), grads = step_gradients(params, graphdef, batch)
    ours = jax.tree.map(np.asarray, ours)
    ours |= _patch_indices(batch, ours)
    masks = {name: arrays[f"{name}_image_masks"].astype(bool) for name in ("mlm", "itm")}
    theirs = {
        name: value for name, value in arrays.items() if "/" not in name and name not in INPUTS
    }
    if unknown := sorted(set(theirs) - set(ours)):
        raise ValueError(f"outputs that are not known: {unknown}; known: {sorted(ours)}")
    for name, value in theirs.items():
        found, expected = ours[name], np.asarray(value)
        pass_of = name.partition("_")[0]
        if name in ("mlm_image_feats", "itm_image_feats", "visual_embed"):
            mask = masks["mlm" if name == "visual_embed" else pass_of]
            found = np.where(mask[..., None], _cut(found, expected), 0)
            expected = np.where(mask[..., None], expected, 0)
        elif name in ("mlm_patch_index", "itm_patch_index"):
            mask = masks[pass_of][:, 1:, None]
            found, expected = np.where(mask, _cut(found, expected), 0), np.where(mask, expected, 0)
        _compare_patches(report, name, found, expected)
    _compare_gradients(report, to_vilt(grads, fields), group(arrays, "grad"), info)


def _told(sizes: Info) -> dict[str, int]:
    """Sizes in the JSON's words and in ours, by the JSON's."""
    names = {
        "dim": "width",
        "layers": "depth",
        "heads": "num_heads",
        "vocab": "vocab_size",
        "L": "text_length",
        "img": "image_size",
        "patch": "patch_size",
    }
    return {theirs: int(sizes[ours if ours in sizes else theirs]) for theirs, ours in names.items()}


def _cut(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """As many patches [B, P, ...] of ours as theirs has."""
    return ours[:, : theirs.shape[1]]


def _patch_indices(batch: dict[str, jax.Array], ours: dict[str, Any]) -> dict[str, np.ndarray]:
    """Rows and columns of the patches of both passes, [B, P, 2]."""
    found = {}
    for name, prefix in (("mlm", ""), ("itm", OTHER)):
        most = ours[f"{name}_image_masks"].shape[1] - 1
        patches = all_patches(batch[f"{prefix}image_grid"], most)
        found[f"{name}_patch_index"] = np.stack([patches.row, patches.column], axis=-1)
    return found


def _compare_gradients(report: Any, ours: Arrays, theirs: Arrays, info: Info) -> None:
    """Compares the gradients that are stored.

    Raises:
        ValueError: there are some of unknown parameters.
    """
    without = set(info.get("params_without_grad", ()))
    if unknown := sorted((set(theirs) | without) - set(ours)):
        raise ValueError(f"the fixture holds gradients of parameters that are not known: {unknown}")
    for name, value in sorted(theirs.items()):
        tolerance = GRADIENT_TOLERANCE * float(np.abs(value).max(initial=0.0)) + GRADIENT_FLOOR
        report.compare(f"grad/{name}", ours[name], value, tolerance)
    for name in sorted(without - set(theirs)):
        report.compare(f"no grad/{name}", ours[name], np.zeros_like(ours[name]), 0.0)


# Plans of other settings than the official ones.
PLANS: dict[str, dict[str, Any]] = {
    "T": {},
    "T_iter1": dict(iterations=1),
    "T_iter5": dict(iterations=5),
    "T_beta1_iter10": dict(beta=1.0, iterations=10),
}


plan_of = jax.jit(transport_plan, static_argnames=("beta", "iterations"))


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
def distance_gradients(words: jax.Array, patches: jax.Array, *masks: jax.Array) -> Any:
    """((the sum of the distances, the distances), its gradients by words and patches)."""
    distance = transport_distance(words, patches, *masks)
    return distance.sum(), distance


def check_ipot(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares costs, plans, distances and gradients of the alignment alone.

    Raises:
        ValueError: an array that is not known.
    """
    for number, case in enumerate(info["cases"]):
        given = group(arrays, f"case{number}")
        words, patches = (jnp.asarray(given.pop(f"{side}_emb")) for side in ("txt", "img"))
        masks = [~jnp.asarray(given.pop(f"{side}_pad")) for side in ("txt", "img")]
        for mask, side in zip(masks, ("txt_len", "img_len"), strict=True):
            report.compare_equal(f"case{number}/{side}", mask.sum(1).tolist(), case[side])
        report.compare_equal(
            f"case{number}/shape", [*words.shape[:2], *patches.shape[1:]], case["shape"]
        )
        cost = cosine_costs(words, patches, *masks)
        (_, distance), grads = distance_gradients(words, patches, *masks)
        ours = {"cost": cost, "distance": distance}
        ours |= {name: plan_of(cost, *masks, **options) for name, options in PLANS.items()}
        ours |= dict(zip(("grad_txt_emb", "grad_img_emb"), grads, strict=True))
        report.compare(
            f"case{number}/distance of the JSON",
            ours["distance"],
            np.asarray(case["distance"]),
            OUTPUT_TOLERANCE,
        )
        if "T_col_sums_real" in case:
            report.compare(
                f"case{number}/sums of the plan",
                np.asarray(ours["T"]).sum(axis=(1, 2)),
                np.asarray(case["T_col_sums_real"]),
                OUTPUT_TOLERANCE,
            )
        if unknown := sorted(set(given) - set(ours)):
            raise ValueError(f"case{number}: arrays that are not known: {unknown}")
        for name, value in given.items():
            tolerance = OUTPUT_TOLERANCE
            if name.startswith("grad"):
                tolerance = GRADIENT_TOLERANCE * float(np.abs(value).max()) + GRADIENT_FLOOR
            report.compare(f"case{number}/{name}", ours[name], value, tolerance)
