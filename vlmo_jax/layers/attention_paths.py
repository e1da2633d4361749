"""The ways to compute attention, and the one place that decides between them.

"xla": two products with a softmax in float32 between them, on every platform, under every mask.
"cudnn": NVIDIA's fused kernel, which never writes the logits to memory. It takes bfloat16 or
float16, a bias that is the same for all rows of a batch, and padding at the end of a row only.
"auto": cuDNN where it takes the shapes, gives what XLA gives in a trial, and has enough to do.
"""

import concurrent.futures
import functools
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from vlmo_jax.parallel.platform import for_nvidia, on_nvidia

PATHS = ("auto", "xla", "cudnn")

# Tokens from which "auto" takes cuDNN: the logits of shorter rows are small beside the rest.
LEAST_TOKENS = 128
WIDEST_HEAD = 128
# How far apart the two may be in a trial, as a share of the largest value: bfloat16 has 8 bits.
NEAR = 0.03
IMPLEMENTATION: Any = "cudnn"


class KeyValues(NamedTuple):
    """Keys and values that queries meet, in the compute type.

    Attributes:
        keys: [B, H, N, K].
        values: [B, H, N, K].
    """

    keys: jax.Array
    values: jax.Array


class PaddedAtEnd(NamedTuple):
    """A mask of rows whose padding follows all real tokens, which fused kernels take as lengths.

    Attributes:
        mask: [B, N] bool, True for real tokens: in each row the first ones, and at least one.
    """

    mask: jax.Array


def attend(
    q: jax.Array,
    seen: KeyValues,
    *,
    mask: jax.Array | PaddedAtEnd | None = None,
    bias: jax.Array | None = None,
    scale: float = 1.0,
    path: str = "xla",
) -> jax.Array:
    """Sums of values, weighted by the softmax of logits, which is float32.

    Args:
        q: [B, H, Q, K].
        seen: N keys and values.
        mask: bool, broadcast to [B, H, Q, N], or PaddedAtEnd; None: every key is seen.
        bias: float32, broadcast to [B, H, Q, N]; None: no bias.
        scale: of the logits; queries are multiplied by it.
        path: one of PATHS.

    Returns:
        [B, Q, H, K] in the type of the values.
    """
    tokens = q.shape[2]
    own = seen.keys.shape[2] == tokens and (bias is None or _of_all_rows(bias, q.shape))
    if own and takes_cudnn(path, q.shape, q.dtype, mask=mask, biased=bias is not None):
        arguments = cudnn_arguments(q, seen, mask=mask, bias=bias, scale=scale)  # type: ignore[arg-type]
        y = jax.nn.dot_product_attention(**arguments, implementation=IMPLEMENTATION)
        return y[:, :tokens]
    return attend_in_xla(q * scale if scale != 1.0 else q, seen, mask=mask, bias=bias)


def attend_in_xla(
    q: jax.Array,
    seen: KeyValues,
    *,
    mask: jax.Array | PaddedAtEnd | None = None,
    bias: jax.Array | None = None,
) -> jax.Array:
    """As `attend`, by the path "xla"."""
    logits = jnp.einsum("bhqk,bhmk->bhqm", q, seen.keys, preferred_element_type=jnp.float32)
    if bias is not None:
        logits += bias
    if isinstance(mask, PaddedAtEnd):
        mask = mask.mask[:, None, None]
    if mask is not None:
        logits = jnp.where(mask, logits, -jnp.inf)
    weights = jax.nn.softmax(logits, axis=-1).astype(seen.values.dtype)
    return jnp.einsum("bhqm,bhmk->bqhk", weights, seen.values)


def cudnn_arguments(
    q: jax.Array,
    seen: KeyValues,
    *,
    mask: PaddedAtEnd | None,
    bias: jax.Array | None,
    scale: float = 1.0,
) -> dict[str, Any]:
    """What `jax.nn.dot_product_attention` is called with: an even number of tokens, and lengths.

    Args:
        q: [B, H, N, K].
        seen: N keys and values.
        mask: None: every key is seen.
        bias: [1, H, N, N] float32, which is rounded to the type of `q`; None: no bias.
        scale: of the logits.

    Returns:
        Its arguments by name; arrays have M = N or N + 1 tokens. Of its result the first N count.
    """
    batch, tokens = q.shape[0], q.shape[2]
    odd = (0, tokens % 2)
    lay_out = lambda x: jnp.pad(x.swapaxes(1, 2), ((0, 0), odd, (0, 0), (0, 0)))
    query, key, value = map(lay_out, (q, *seen))
    arguments: dict[str, Any] = dict(query=query, key=key, value=value, scale=scale)
    if bias is not None:
        arguments["bias"] = jnp.pad(bias.astype(q.dtype), ((0, 0), (0, 0), odd, odd))
    if mask is not None or tokens % 2:
        every = jnp.full((batch,), tokens, jnp.int32)
        real = every if mask is None else mask.mask.sum(-1, dtype=jnp.int32)
        arguments["query_seq_lengths"] = every
        arguments["key_value_seq_lengths"] = jnp.broadcast_to(real, (batch,))
    return arguments


def why_not_cudnn(dtype: DTypeLike, head_width: int, tensor: int = 1) -> str:
    """Why the path "cudnn" cannot be taken on this machine, in words; "" if it can.

    Args:
        dtype: compute type.
        head_width: K.
        tensor: devices that heads are split over.
    """
    if not for_nvidia():
        return f"it runs on NVIDIA GPUs, and this is a {jax.default_backend().upper()}"
    if jnp.dtype(dtype) not in (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float16)):
        return f"it computes in bfloat16 and not in {jnp.dtype(dtype).name}"
    if head_width % 8 or head_width > WIDEST_HEAD:
        return f"it takes heads of 8, 16 ... {WIDEST_HEAD} values, and they have {head_width}"
    if tensor > 1:
        return f"it does not take heads that are split over config.mesh.tensor={tensor}"
    return ""


def takes_cudnn(
    path: str, shape: Sequence[int], dtype: DTypeLike, *, mask: Any, biased: bool
) -> bool:
    """Whether tokens that attend to each other do so by cuDNN's kernel here.

    Args:
        path: one of PATHS.
        shape: B, H, N, K.
        dtype: compute type.
        mask: as of `attend`.
        biased: whether there is a position bias, the same for all rows.
    """
    _, heads, tokens, head_width = shape
    if path == "xla" or not (mask is None or isinstance(mask, PaddedAtEnd)):
        return False
    if path == "auto" and (not for_nvidia() or tokens < LEAST_TOKENS):
        return False
    tensor = jax.sharding.get_abstract_mesh().shape.get("tensor", 1)
    reason = why_not_cudnn(dtype, head_width, tensor)
    if path == "auto" and not reason and on_nvidia():  # else it is compiled for another machine
        # Its arguments have an even number of tokens, whether they are padded there or before.
        name = jnp.dtype(dtype).name
        reason = failed_trial(tokens + tokens % 2, heads, head_width, name, biased)
    if reason:
        _say_once(f"Attention is computed without cuDNN's fused kernel: {reason}.")
    return not reason


def _of_all_rows(bias: jax.Array, shape: Sequence[int]) -> bool:
    _, heads, tokens, _ = shape
    return bias.shape == (1, heads, tokens, tokens)


@functools.lru_cache
def failed_trial(tokens: int, heads: int, head_width: int, dtype: str, biased: bool) -> str:
    """What went wrong when cuDNN was tried on two rows of this shape, in words; "" if nothing did.

    The trial has a thread of its own: this may be called while a program is traced for a mesh.

    Args:
        tokens, heads, head_width: N, H and K.
        dtype: compute type.
        biased: whether there is a position bias.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        try:
            distance = thread.submit(_trial, tokens, heads, head_width, dtype, biased).result()
        except Exception as error:  # whatever a version or a card has against it
            first = (str(error) or type(error).__name__).splitlines()[0]
            return f"{first[:200]} ({tokens} tokens, {heads} heads of {head_width}, {dtype})"
    if distance <= NEAR:
        return ""
    return f"on {tokens} tokens, {heads} heads of {head_width}, it is {distance:.1%} off"


def _trial(tokens: int, heads: int, head_width: int, dtype: str, biased: bool) -> float:
    """The largest distance of cuDNN's sums and gradients from XLA's, as a share of the largest
    value; two rows, one of them padded.
    """
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    shape = (2, heads, tokens, head_width)
    q, k, v = (draw(*shape).astype(dtype) for _ in range(3))
    inputs = (q * head_width**-0.5, k, v, draw(1, heads, tokens, tokens) if biased else None)
    lengths = np.asarray([[tokens], [tokens - tokens // 8]])
    mask = PaddedAtEnd(jnp.asarray(np.arange(tokens) < lengths))
    weights = draw(2, tokens, heads, head_width)

    def both(path: str) -> Any:
        def total(q: jax.Array, k: jax.Array, v: jax.Array, bias: Any) -> Any:
            y = attend(q, KeyValues(k, v), mask=mask, bias=bias, path=path)
            return (y.astype(jnp.float32) * weights).sum(), y

        return jax.jit(jax.value_and_grad(total, (0, 1, 2, 3) if biased else (0, 1, 2), True))(
            *inputs
        )

    (_, found), found_grads = both("cudnn")
    (_, expected), expected_grads = both("xla")
    pairs = zip((found, *found_grads), (expected, *expected_grads), strict=True)
    distances = []
    for one, other in pairs:
        one, other = (np.asarray(x, np.float32) for x in (one, other))
        distances.append(np.abs(one - other).max() / np.abs(other).max())
    return float(np.max(distances))  # NaN where any of them is


@functools.lru_cache
def _say_once(text: str) -> None:
    if jax.process_index() == 0:
        logging.getLogger(__name__).warning(text)
