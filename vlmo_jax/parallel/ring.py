"""Work of which each shard of the batch does its rows, while the rows of the others come past.

No device ever holds more than its own rows and those of one other shard.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from vlmo_jax.parallel.sharding import partition_spec

# The axes of the mesh that split a batch, as jax.lax takes them.
(AXES,) = partition_spec(("batch",))

Visit = Callable[[Any, Any, jax.Array], Any]


def map_shards(function: Callable[..., Any], *trees: Any) -> Any:
    """Calls a function on each shard of the batch.

    Args:
        function: of trees of rows, such as [B / shards, ...], and of scalars; returns a tree of
            rows. It may use `round_trip` and `first_row`.
        *trees: of arrays [B, ...], split by rows, and scalars, which each shard has.

    Returns:
        The tree of rows, [B, ...]; without a mesh in context the batch is one shard.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return function(*trees)
    specs = jax.tree.map(lambda x: PartitionSpec(AXES) if jnp.ndim(x) else PartitionSpec(), trees)
    mapped = jax.shard_map(function, in_specs=specs, out_specs=PartitionSpec(AXES), check_vma=False)
    return mapped(*trees)


def first_row(rows: int) -> jax.Array:
    """Where in the batch a shard's rows begin.

    Args:
        rows: of each shard.
    """
    return rows * (jax.lax.axis_index(AXES) if _num_shards() > 1 else jnp.int32(0))


def round_trip(visit: Visit, carry: Any, rows: Any, groups: int = 1) -> Any:
    """Lets the rows of all shards of a group come past each, its own ones first.

    Args:
        visit: (carry, rows of a shard, number of that shard) -> carry.
        carry: what `visit` changes.
        rows: a tree of arrays [B / shards, ...], those of this shard.
        groups: consecutive parts of the batch, a divisor or a multiple of the shards; none comes
            past another. Shards of several groups see their own rows alone.

    Returns:
        The last carry.
    """
    shards = _num_shards()
    members = max(1, shards // groups)
    number = jax.lax.axis_index(AXES) if shards > 1 else jnp.int32(0)
    if members == 1:
        return visit(carry, rows, number)
    first = number - number % members
    onward = [(s, s - s % members + (s + 1) % members) for s in range(shards)]

    def hop(state, count):
        carry, rows = state
        carry = visit(carry, rows, first + (number - count) % members)
        return (carry, jax.lax.ppermute(rows, AXES, onward)), None

    return jax.lax.scan(hop, (carry, rows), jnp.arange(members, dtype=jnp.int32))[0][0]


def take_rows(rows: Any, numbers: jax.Array, groups: int = 1) -> Any:
    """Takes rows of the whole batch as they come past, so that no device holds all of them.

    Args:
        rows: a tree of arrays [B, ...].
        numbers: [F] integers below B, split over the shards as the batch is.
        groups: as of `round_trip`; each number is of a row of its own group.

    Returns:
        A tree of arrays [F, ...].
    """

    def take(rows, numbers):
        size = len(jax.tree.leaves(rows)[0])

        def visit(taken, visitor, shard):
            here = numbers // size == shard

            def put(taken, visitor):
                found = jnp.expand_dims(here, tuple(range(1, visitor.ndim)))
                return jnp.where(found, visitor[numbers % size], taken)

            return jax.tree.map(put, taken, visitor)

        nothing = jax.tree.map(lambda x: jnp.zeros((len(numbers), *x.shape[1:]), x.dtype), rows)
        return round_trip(visit, nothing, rows, groups)

    return map_shards(take, rows, numbers)


def _num_shards() -> int:
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else math.prod(mesh.shape[axis] for axis in AXES)
