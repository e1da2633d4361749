"""Scores in bfloat16, and of each window of rows the best: what runs on the devices.

Products in bfloat16 are the fastest that processors and accelerators have, and read half the
bytes; how far they can be from the true ones is known (`ROUNDING`, `lengths_of_window`), so that
exact.py loses nothing by them.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

AXIS = "rows"  # of the mesh
BLOCK = 64  # rows whose best stands for them
TILE = 4096  # rows scored at once: with its scores, a tile stays in the processor's cache
WINDOW = 65536  # rows of a device between two choices of the best

# float32 sums and products, of D terms, are off by less than this times D times both lengths.
ROUNDING = 2.0**-23

_BY_ROWS = (((1,), (1,)), ((), ()))


def as_bfloat16(rows: jax.Array) -> jax.Array:
    """Rows in bfloat16, rounded to nearest.

    Args:
        rows: float32, or the bits of float16 as uint16: on CPUs XLA converts float16 one by one,
            and bits many at a time. The smallest float16, below 2^-14, become 0.
    """
    if rows.dtype != jnp.uint16:
        return rows.astype(jnp.bfloat16)
    size = rows & 0x7FFF
    rounded = (size + 3 + ((size >> 3) & 1)) >> 3  # 10 bits behind the point become 7
    rounded += jnp.uint16(112 << 7)  # the exponent counts from -127 instead of -15
    rounded = jnp.where(size < 0x400, jnp.uint16(0), rounded)
    return lax.bitcast_convert_type(rounded | (rows & 0x8000), jnp.bfloat16)


def _as_float32(rows: jax.Array) -> jax.Array:
    """Rows in float32, infinities as NaN."""
    if rows.dtype != jnp.uint16:
        return rows
    bits = rows.astype(jnp.uint32)
    size = bits & 0x7FFF
    values = lax.bitcast_convert_type((size << 13) + (112 << 23), jnp.float32)
    small = size.astype(jnp.float32) * jnp.float32(2.0**-24)
    values = jnp.where(size < 0x400, small, jnp.where(size < 0x7C00, values, jnp.nan))
    return jnp.where(bits & 0x8000, -values, values)


def _window_scores(queries: jax.Array, rows: jax.Array, allowed: jax.Array) -> jax.Array:
    """float32 [W, Q] of the rows of one device, -inf where they are not allowed."""
    tile = min(TILE, len(rows))

    def score(part: tuple[jax.Array, jax.Array]) -> jax.Array:
        scores = lax.dot_general(
            as_bfloat16(part[0]), queries, _BY_ROWS, preferred_element_type=jnp.float32
        )
        return jnp.where(part[1][:, None], scores, -jnp.inf)

    tiles = (rows.reshape(-1, tile, rows.shape[1]), allowed.reshape(-1, tile))
    return lax.map(score, tiles).reshape(len(rows), len(queries))


def _window_best(
    queries: jax.Array, rows: jax.Array, allowed: jax.Array, *, count: int
) -> tuple[jax.Array, jax.Array]:
    blocks = _window_scores(queries, rows, allowed).reshape(-1, BLOCK, len(queries))
    # The `count` best rows stand in the `count` blocks with the best ones.
    _, best_blocks = lax.top_k(blocks.max(1).T, min(count, len(blocks)))
    scores = blocks[best_blocks, :, jnp.arange(len(queries))[:, None]].reshape(len(queries), -1)
    best, places = lax.top_k(scores, min(count, len(rows)))
    of_block = jnp.take_along_axis(best_blocks, places // BLOCK, axis=1)
    return best[None], (of_block * BLOCK + places % BLOCK)[None]


def _window_lengths(rows: jax.Array) -> jax.Array:
    tile = min(TILE, len(rows))

    def measure(part: jax.Array) -> jax.Array:
        values = _as_float32(part)
        lost = values - as_bfloat16(part).astype(jnp.float32)
        return jnp.stack([jnp.square(values).sum(1), jnp.square(lost).sum(1)]).max(1)

    return jnp.sqrt(lax.map(measure, rows.reshape(-1, tile, rows.shape[1])).max(0))[None]


@functools.partial(jax.jit, static_argnames=("count", "mesh"))
def best_of_window(
    queries: jax.Array, rows: jax.Array, allowed: jax.Array, *, count: int, mesh: jax.sharding.Mesh
) -> tuple[jax.Array, jax.Array]:
    """The best rows of each device.

    Args:
        queries: bfloat16 [Q, D].
        rows: as `as_bfloat16` takes them, [W x devices, D].
        allowed: bool [W x devices].
        count: how many are wanted.
        mesh: of the devices, which share the rows.

    Returns:
        Scores float32 and places among the rows of the device int32, both [devices, Q, count].
    """
    return jax.shard_map(
        functools.partial(_window_best, count=count),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(AXIS),
    )(queries, rows, allowed)


@functools.partial(jax.jit, static_argnames="mesh")
def scores_of_window(
    queries: jax.Array, rows: jax.Array, allowed: jax.Array, *, mesh: jax.sharding.Mesh
) -> jax.Array:
    """All scores, float32 [W x devices, Q]; see `best_of_window`."""
    return jax.shard_map(
        _window_scores,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(AXIS), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(AXIS),
    )(queries, rows, allowed)


@functools.partial(jax.jit, static_argnames="mesh")
def lengths_of_window(rows: jax.Array, *, mesh: jax.sharding.Mesh) -> jax.Array:
    """float32 [devices, 2]: the length of the longest row, and of what bfloat16 takes away at most;
    not finite where a row is not.
    """
    return jax.shard_map(
        _window_lengths, mesh=mesh, in_specs=PartitionSpec(AXIS), out_specs=PartitionSpec(AXIS)
    )(rows)
