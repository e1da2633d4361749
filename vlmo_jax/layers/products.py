"""Products of activations with parameters, and the type in which parameters' gradients are summed.

A parameter is cast to the compute type before a product, so its gradient comes out of one in that
type too, and over chips the parts are added in it. Inside `float32_sums` the product that makes the
gradient gives float32, and so do the sums.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

_FLOAT32 = contextvars.ContextVar("float32 sums", default=False)


@contextlib.contextmanager
def float32_sums(wanted: bool = True) -> Iterator[None]:
    """Inside it, traced products have parameter gradients in float32, if `wanted`."""
    token = _FLOAT32.set(wanted)
    try:
        yield
    finally:
        _FLOAT32.reset(token)


def product(spec: str, x: jax.Array, kernel: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Activations times a parameter, in the compute type.

    Args:
        spec: of an einsum, without an ellipsis.
        x: activations.
        kernel: the parameter, float32.
        dtype: compute type, which the result has.
    """
    x = x.astype(dtype)
    if _FLOAT32.get():
        return _product(spec, x, kernel)
    return jnp.einsum(spec, x, kernel.astype(dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(spec, x, kernel):
    return jnp.einsum(spec, x, kernel.astype(x.dtype))


def _forward(spec, x, kernel):
    kernel = kernel.astype(x.dtype)
    return jnp.einsum(spec, x, kernel), (x, kernel)


def _backward(spec, residuals, slope):
    x, kernel = residuals
    taken, given = spec.split("->")
    rows, weights = taken.split(",")
    by_x = jnp.einsum(f"{given},{weights}->{rows}", slope, kernel)
    sums = dict(preferred_element_type=jnp.float32)
    return by_x, jnp.einsum(f"{rows},{given}->{weights}", x, slope, **sums)


_product.defvjp(_forward, _backward)
