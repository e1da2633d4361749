"""From rows that come back from all devices and processes to numpy arrays."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vlmo_jax.commands.endings import UserError
from vlmo_jax.evals.interruption import stop_if_asked
from vlmo_jax.parallel import sharding


class NothingToEvaluateError(UserError, ValueError):
    """An evaluation without a record, a text or a masked place: it has no result."""


class BrokenModelError(UserError, FloatingPointError):
    """A model says what is no number: no score of it would mean anything."""


# (tree of arrays [B, ...], index [B] int32, valid [B] bool): global arrays, rows in any order.
Rows = tuple[Any, jax.Array, jax.Array]


def apply_to_batch(
    function: Callable[[dict], Any], batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh
) -> Rows:
    """Applies a function of the model to what this process holds of a batch.

    Args:
        function: of a dict of global arrays; gives a tree of arrays [B, ...].
        batch: arrays [b, ...], with `index` (where a row belongs) and `valid` (False: padding).
        mesh: the mesh of the job.
    """
    arrays = sharding.place_batch(batch, mesh)
    index, valid = arrays.pop("index"), arrays.pop("valid")
    return function(arrays), index, valid


def collect_rows(results: Iterable[Rows], num_rows: int) -> Any:
    """Puts the rows of many batches in their places, the same on every process.

    One batch is always under way on the devices while the one before it is copied.

    Args:
        results: of `apply_to_batch`, one a batch.
        num_rows: how many rows there are.

    Returns:
        A tree like that of the results, of numpy arrays [num_rows, ...].

    Raises:
        RuntimeError: a row never came.
        InterruptedEvaluation: the evaluation is to stop.
        UserError: there are no rows: a measure of nothing means nothing.
    """
    if not num_rows:
        raise NothingToEvaluateError("there is nothing to evaluate: the split has no rows")
    rows, seen, waiting = None, np.zeros(num_rows, np.bool_), None
    for result in _then_none(results):
        stop_if_asked()
        if waiting is not None:
            values, index, valid = multihost_utils.process_allgather(waiting, tiled=True)
            if rows is None:
                rows = jax.tree.map(lambda x: np.zeros((num_rows, *x.shape[1:]), x.dtype), values)
            for whole, part in zip(jax.tree.leaves(rows), jax.tree.leaves(values), strict=True):
                whole[index[valid]] = part[valid]
            seen[index[valid]] = True
        waiting = result
    if not seen.all():
        raise RuntimeError(
            f"{np.sum(~seen)} of {num_rows} rows never came, such as row {np.argmin(seen)}"
        )
    return rows


def require_finite(rows: Any, what: str) -> None:
    """Refuses rows with NaN or infinity.

    Args:
        rows: tree of numpy arrays [N, ...].
        what: they are, in the plural.

    Raises:
        BrokenModelError: there are some.
    """
    for values in jax.tree.leaves(rows):
        broken = np.sum(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        if broken:
            raise BrokenModelError(
                f"{broken} of {len(values)} {what} are not finite; the parameters are broken:"
                " evaluate an earlier checkpoint"
            )


def collect_examples(
    function: Callable[[dict], Any], examples: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh
) -> Any:
    """Applies a function of the model to a few rows that every process holds.

    Args:
        function: as in `apply_to_batch`.
        examples: arrays [N, ...], the same on every process.
        mesh: the mesh of the job.

    Returns:
        A tree of numpy arrays [N, ...].
    """
    count = len(next(iter(examples.values())))
    rows = padded_rows(count, mesh)
    batch = {name: values[rows] for name, values in examples.items()}
    batch |= {"index": rows, "valid": np.ones(len(rows), np.bool_)}
    return collect_rows([apply_to_batch(function, batch, mesh)], count)


def padded_rows(count: int, mesh: jax.sharding.Mesh) -> np.ndarray:
    """Which of `count` rows this process puts into a batch that divides over a mesh: some come
    again, int32 [b].
    """
    shards, hosts, host = sharding.num_batch_shards(mesh), jax.process_count(), jax.process_index()
    local = -(-count // shards) * shards // hosts
    return (np.arange(host * local, (host + 1) * local) % count).astype(np.int32)


def _then_none(results: Iterable[Rows]) -> Iterator[Rows | None]:
    yield from results
    yield None
