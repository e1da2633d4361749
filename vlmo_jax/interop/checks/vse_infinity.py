"""Kind `vse_infty`: generalized pooling, the encoder of regions in evaluation and in training, and
the triplet loss, with all gradients.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.interop.checks.reference import Arrays, Info, group
from vlmo_jax.interop.places import empty_places, fill_places
from vlmo_jax.interop.vse_infinity import encoder_places, pooling_places
from vlmo_jax.layers.generalized_pooling import GeneralizedPooling, sinusoids
from vlmo_jax.layers.region_encoder import RegionEncoder
from vlmo_jax.models.build import abstract_model
from vlmo_jax.objectives.triplet import triplet_loss

TOLERANCE = 2e-5
GRADIENT_TOLERANCE, GRADIENT_FLOOR = 1e-5, 1e-6
UNUSED = "mlp.bns.1."  # which the official code owns and never runs
COUNTER = "num_batches_tracked"


def check_vse_infinity(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares every array of such a fixture, and those of `held_out` ones that have more.

    Args:
        arrays: `gpo/*`, `enc/*`, `enc_eval*`, `enc_train*`, `triplet*`.
        info: the JSON.
        report: of `interop.check`.
    """
    _check_pooling(group(arrays, "gpo"), info["config"], report)
    _check_triplet(arrays, info["margin"], report)
    _check_encoder(arrays, info, report)


def _mask(lengths: np.ndarray, most: int) -> jax.Array:
    return jnp.arange(most)[None] < jnp.asarray(lengths)[:, None]


def _check_pooling(arrays: Arrays, config: Info, report: Any) -> None:
    width, hidden = config["d_pe"], config["d_h"]
    features, lengths = jnp.asarray(arrays["features"]), arrays["lengths"]
    graphdef, _ = abstract_model(lambda rngs: GeneralizedPooling(width, hidden, rngs=rngs))
    places = pooling_places("")
    tensors = group(arrays, "param")
    report.compare_names("gpo/param names", places, tensors)
    params = jax.tree.map(jnp.asarray, fill_places(tensors, places))
    mask = _mask(lengths, features.shape[1])

    @jax.jit
    def run(params: Any, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        pooled = nnx.merge(graphdef, params)(features, mask)
        return jnp.vdot(pooled, jnp.asarray(arrays["cotangent"])), pooled

    (loss, pooled), (grads, slopes) = jax.value_and_grad(run, (0, 1), has_aux=True)(
        params, features
    )
    longest = int(lengths.max())
    weights = nnx.merge(graphdef, params).weights(features.shape[1])[lengths - 1]
    report.compare("gpo/pe", sinusoids(len(arrays["pe"]), width), arrays["pe"], TOLERANCE)
    shown = arrays["pool_weights"].shape[1]
    report.compare("gpo/pool_weights", weights[:, :shown, None], arrays["pool_weights"], TOLERANCE)
    report.compare(
        "gpo/pool_weights beyond the longest", weights[:, longest:], 0 * weights[:, longest:], 0.0
    )
    report.compare("gpo/pooled", pooled, arrays["pooled"], TOLERANCE)
    report.compare("gpo/loss", loss, arrays["loss"], TOLERANCE * max(1.0, abs(float(loss))))
    _compare_gradient("gpo/grad_features", slopes, arrays["grad_features"], report)
    _compare_gradients("gpo", grads, places, group(arrays, "grad"), report)


def _check_triplet(arrays: Arrays, margin: float, report: Any) -> None:
    images, texts = (jnp.asarray(arrays[f"triplet/{name}"]) for name in ("im", "s"))
    report.compare("triplet/scores", images @ texts.T, arrays["triplet/scores"], TOLERANCE)
    run = jax.jit(
        lambda images, texts, hardest: jax.value_and_grad(_loss, (0, 1))(
            images, texts, margin, hardest
        )
    )
    for name, hardest in (("triplet_max", True), ("triplet_sum", False)):
        loss, slopes = run(images, texts, jnp.asarray(hardest))
        _compare_loss(name, loss, arrays, report)
        for key, slope in zip(("grad_im", "grad_s"), slopes, strict=True):
            _compare_gradient(f"{name}/{key}", slope, arrays[f"{name}/{key}"], report)


def _loss(images: jax.Array, texts: jax.Array, margin: float, hardest: Any) -> jax.Array:
    scores = images @ texts.T
    return triplet_loss(scores, scores.T, margin, hardest=hardest)


def _check_encoder(arrays: Arrays, info: Info, report: Any) -> None:
    tensors = {**group(arrays, "enc/param"), **group(arrays, "enc/buffer")}
    places = encoder_places("", has_mlp=True)
    read = {n: t for n, t in tensors.items() if not n.startswith(UNUSED) and COUNTER not in n}
    report.compare_names("enc/param names", places, read)
    hidden, width = tensors["mlp.layers.0.weight"].shape
    make = lambda rngs: RegionEncoder(
        width, len(tensors["fc.weight"]), mlp_hidden=hidden, rngs=rngs
    )
    graphdef, _ = abstract_model(make)
    params = jax.tree.map(jnp.asarray, fill_places(read, places))
    images, captions = (jnp.asarray(arrays[f"enc/{name}"]) for name in ("images", "captions"))
    mask = _mask(arrays["enc/lengths"], images.shape[1])

    @functools.partial(jax.jit, static_argnums=0)
    def run(by_batch: bool, arguments: Any, hardest: jax.Array) -> Any:
        def loss(params: Any, images: jax.Array, captions: jax.Array) -> Any:
            embeddings = nnx.merge(graphdef, params)(images, mask, by_batch=by_batch)
            return _loss(embeddings, captions, info["margin"], hardest), embeddings

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(*arguments)

    trained = {name: place for name, place in places.items() if "running" not in name}
    for mode, by_batch in (("eval", False), ("train", True)):
        for kind, hardest in (("max", True), ("sum", False)):
            name = f"enc_{mode}_{kind}"
            (loss, embeddings), (grads, *slopes) = run(
                by_batch, (params, images, captions), jnp.asarray(hardest)
            )
            _compare_loss(name, loss, arrays, report)
            for key, slope in zip(("grad_images", "grad_captions"), slopes, strict=True):
                _compare_gradient(f"{name}/{key}", slope, arrays[f"{name}/{key}"], report)
            _compare_gradients(name, grads, trained, group(arrays, f"{name}/grad"), report)
        theirs = arrays[f"enc_{mode}/embeddings"]
        report.compare(f"enc_{mode}/embeddings", embeddings, theirs, TOLERANCE)
    moved = nnx.merge(graphdef, params).moved_statistics(images)
    after = group(arrays, "enc_train")
    report.compare(
        "enc_train/after mean",
        moved["running_mean"],
        after["after_mlp.bns.0.running_mean"],
        TOLERANCE,
    )
    report.compare(
        "enc_train/after var",
        moved["running_variance"],
        after["after_mlp.bns.0.running_var"],
        TOLERANCE,
    )
    for name in ("running_mean", "running_var"):  # nobody runs it, so that nothing moves it
        report.compare(
            f"enc_train/after unused {name}",
            tensors[f"{UNUSED}{name}"],
            after[f"after_{UNUSED}{name}"],
            0.0,
        )


def _compare_loss(name: str, loss: jax.Array, arrays: Arrays, report: Any) -> None:
    theirs = arrays[f"{name}/loss"]
    report.compare(f"{name}/loss", loss, theirs, TOLERANCE * max(1.0, abs(float(theirs))))


def _compare_gradients(
    name: str, grads: Any, places: dict[str, Any], theirs: Arrays, report: Any
) -> None:
    flat = flatten(grads)
    paths = {place.path for place in places.values()}
    kept = nnx.traversals.unflatten_mapping({p: g for p, g in flat.items() if p in paths})
    ours = empty_places(kept, places)
    report.compare_names(f"{name}/grad names", ours, theirs)
    for key in sorted(set(ours) & set(theirs)):
        _compare_gradient(f"{name}/grad/{key}", ours[key], theirs[key], report)


def _compare_gradient(name: str, ours: Any, theirs: np.ndarray, report: Any) -> None:
    tolerance = GRADIENT_TOLERANCE * float(np.abs(theirs).max(initial=0.0)) + GRADIENT_FLOOR
    report.compare(name, ours, theirs, tolerance)
