"""Speed of the ways to compute attention, by shape, with gradients as in training."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vlmo_jax.bench.steps import time_calls
from vlmo_jax.layers.attention_paths import (
    KeyValues,
    PaddedAtEnd,
    attend,
    failed_trial,
    why_not_cudnn,
)


class Shape(NamedTuple):
    """Attention of one layer: B rows of N tokens, H heads of K values; biased: by position."""

    rows: int
    tokens: int
    heads: int
    head_width: int
    biased: bool = True


def benchmark_attention(shape: Shape, path: str, *, repeats: int) -> dict[str, Any]:
    """Measures one layer's attention, forward and with the gradients of all its inputs.

    Args:
        shape: of it; rows are padded at their end, as those of fused pairs are.
        path: "xla" or "cudnn".
        repeats: calls to measure.

    Returns:
        A record: the shape, seconds of both, and FLOP/s; or why the path cannot be taken.
    """
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    record = {"path": path, **shape._asdict(), "dtype": jnp.dtype(dtype).name}
    if path == "cudnn" and (reason := _why_not(shape, dtype)):
        return {**record, "skipped": reason}
    rng = np.random.default_rng(0)
    draw = lambda *of: jnp.asarray(rng.normal(size=of), dtype)
    sizes = (shape.rows, shape.heads, shape.tokens, shape.head_width)
    bias = draw(1, shape.heads, shape.tokens, shape.tokens).astype(jnp.float32)
    inputs = (*(draw(*sizes) for _ in range(3)), bias if shape.biased else None)
    lengths = rng.integers(shape.tokens * 7 // 8, shape.tokens + 1, shape.rows)
    mask = PaddedAtEnd(jnp.asarray(np.arange(shape.tokens) < lengths[:, None]))

    def forward(q: jax.Array, k: jax.Array, v: jax.Array, bias: Any) -> jax.Array:
        return attend(q * shape.head_width**-0.5, KeyValues(k, v), mask=mask, bias=bias, path=path)

    def total(*inputs: Any) -> jax.Array:
        return forward(*inputs).astype(jnp.float32).sum()

    both = jax.grad(total, (0, 1, 2, 3) if shape.biased else (0, 1, 2))
    seconds = [
        float(
            np.median(
                time_calls(
                    functools.partial(jax.jit(run), *inputs), repeats=repeats, warmup=2, ahead=0
                )
            )
        )
        for run in (forward, both)
    ]
    flops = 4 * math.prod(sizes) * shape.tokens
    return {
        **record,
        "seconds_forward": seconds[0],
        "seconds_with_gradients": seconds[1],
        "flops_per_second": 3 * flops / seconds[1],
    }


def _why_not(shape, dtype):
    """Why cuDNN's kernel is not taken, in words; "" if it is."""
    _, tokens, heads, head_width, biased = shape
    return why_not_cudnn(dtype, head_width) or failed_trial(
        tokens, heads, head_width, jnp.dtype(dtype).name, biased
    )
