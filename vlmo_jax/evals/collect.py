"""From rows that come back from all devices and processes to one numpy array."""

from collections.abc import Iterable

import jax
import numpy as np
from jax.experimental import multihost_utils

from vlmo_jax.parallel import sharding


def collect_rows(
    results: Iterable[tuple[jax.Array, jax.Array, jax.Array]], num_rows: int
) -> np.ndarray:
    """Puts the rows of many batches in their places, the same on every process.

    One batch is always under way on the devices while the one before it is copied.

    Args:
        results: (values [B, ...], index [B] int32, valid [B] bool) of each batch, global arrays in
            any order of rows.
        num_rows: how many rows there are.

    Returns:
        [num_rows, ...] of the dtype of the values.

    Raises:
        RuntimeError: a row never came.
    """
    rows, seen, waiting = None, np.zeros(num_rows, np.bool_), None
    for result in _then_none(results):
        if waiting is not None:
            values, index, valid = multihost_utils.process_allgather(waiting, tiled=True)
            if rows is None:
                rows = np.zeros((num_rows, *values.shape[1:]), values.dtype)
            rows[index[valid]] = values[valid]
            seen[index[valid]] = True
        waiting = result
    if not seen.all():
        raise RuntimeError(
            f"{np.sum(~seen)} of {num_rows} rows never came, such as row {np.argmin(seen)}"
        )
    return rows


def padded_rows(count: int, mesh: jax.sharding.Mesh) -> np.ndarray:
    """Which of `count` rows this process puts into a batch that divides over a mesh: some come
    again, int32 [b].
    """
    shards, hosts, host = sharding.num_batch_shards(mesh), jax.process_count(), jax.process_index()
    local = -(-count // shards) * shards // hosts
    return (np.arange(host * local, (host + 1) * local) % count).astype(np.int32)


def _then_none(results):
    yield from results
    yield None
