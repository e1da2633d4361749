"""Compares our discrete VAE with reference arrays of DALL-E's: pixels, logits, codes and gradients
of the encoder.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.interop.checks.reference import Arrays, Info, group
from vlmo_jax.interop.dalle import from_dalle, to_dalle
from vlmo_jax.models.build import abstract_model, model_maker
from vlmo_jax.models.dvae import map_pixels, unmap_pixels

OUTPUT_TOLERANCE = 2e-5
GRADIENT_TOLERANCE, GRADIENT_FLOOR = 1e-5, 1e-6


def _channels_last(x: np.ndarray) -> jax.Array:
    return jnp.asarray(np.moveaxis(x, 1, -1))


@functools.partial(jax.jit, static_argnums=0)
def _outputs(
    graphdef: nnx.GraphDef, params: Any, image: jax.Array, cotangent: jax.Array
) -> tuple[jax.Array, Any]:
    """Logits, and the gradient of sum(logits * cotangent) / logits.size."""

    def product(params: Any) -> tuple[jax.Array, jax.Array]:
        logits = nnx.merge(graphdef, params).logits(image)
        return jnp.vdot(logits, cotangent) / logits.size, logits

    grads, logits = jax.grad(product, has_aux=True)(params)
    return logits, grads


def check_dalle(arrays: Arrays, info: Info, report: Any) -> None:
    """Checks a fixture of the encoder; every array in it is compared.

    Args:
        arrays: mapping name -> array: `param/*`, `grad/*`, image01, mapped, unmapped, logits,
            codes, cotangent.
        info: its JSON.
        report: has `compare(name, ours, theirs, tolerance)`.

    Raises:
        ValueError: the weights are not an encoder of the sizes in the JSON, or a gradient is
            missing.
    """
    tensors, expected = group(arrays, "param"), group(arrays, "grad")
    sizes, params = from_dalle(tensors)
    config = info["config"]
    stated = (config["group_count"], config["n_blk_per_group"], config["n_hid"], config["vocab"])
    found = tuple(
        sizes[name] for name in ("num_groups", "blocks_per_group", "num_hidden", "vocab_size")
    )
    if stated != found:
        raise ValueError(
            f"the weights have (groups, blocks a group, width, codes) {found}, the JSON says"
            f" {stated}"
        )
    if set(expected) != set(tensors):
        raise ValueError(f"the fixture holds no gradient of {sorted(set(tensors) - set(expected))}")
    back = _official(params, sizes)
    for name, value in tensors.items():
        report.compare(f"param/{name} there and back", back[name], value, 0.0)

    graphdef, _ = abstract_model(model_maker({"kind": "discrete_vae", **sizes}))
    image = _channels_last(arrays["image01"])
    mapped = map_pixels(image)
    logits, grads = _outputs(
        graphdef, jax.tree.map(jnp.asarray, params), image, _channels_last(arrays["cotangent"])
    )
    report.compare("mapped", mapped, _channels_last(arrays["mapped"]), OUTPUT_TOLERANCE)
    report.compare(
        "unmapped", unmap_pixels(mapped), _channels_last(arrays["unmapped"]), OUTPUT_TOLERANCE
    )
    report.compare("logits", logits, _channels_last(arrays["logits"]), OUTPUT_TOLERANCE)
    report.compare("codes", jnp.argmax(logits, -1), arrays["codes"], 0.0)
    grads = _official(grads, sizes)
    for name, value in expected.items():
        tolerance = GRADIENT_TOLERANCE * float(np.abs(value).max()) + GRADIENT_FLOOR
        report.compare(f"grad/{name}", grads[name], value, tolerance)


def _official(params: Any, sizes: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name.removeprefix("encoder."): value for name, value in to_dalle(params, sizes).items()}
