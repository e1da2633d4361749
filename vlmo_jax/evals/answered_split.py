"""What a model says of every example of a split, in its order."""

from collections.abc import Callable
from typing import Any

import jax

from vlmo_jax.evals import collect
from vlmo_jax.input.evaluation import split_batches
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.pipeline import Loading, RowMaker
from vlmo_jax.reports.metrics import progress


def answer_split(
    function: Callable[[dict], Any],
    maker: RowMaker,
    *,
    name: str,
    batch_size: int,
    mesh: jax.sharding.Mesh,
    loading: Loading,
    step: int,
    unit: str,
) -> Any:
    """Applies a function of the model to all rows of a split.

    Args:
        function: jitted, of a batch of global arrays; gives a tree of arrays [B, ...].
        maker: of the rows; padding at the end is left out.
        name: of the evaluator.
        batch_size: rows of a batch over all processes.
        mesh: the mesh of the job.
        loading: how batches are made.
        step: optimizer updates that made the parameters, for messages.
        unit: what a row is, in the plural.

    Returns:
        A tree like that of the function, of numpy arrays [rows, ...], the same on every process.

    Raises:
        RuntimeError: anything failed; it names the evaluator and the step.
    """
    count = len(maker.source)
    host = Host(jax.process_index(), jax.process_count())
    try:
        batches = split_batches(maker, batch_size=batch_size, host=host, loading=loading)
        shown = progress(
            batches,
            total=-(-count // batch_size),
            description=f"{name}: {unit}",
            unit="batch",
            enabled=jax.process_index() == 0,
        )
        results = (collect.apply_to_batch(function, batch, mesh) for batch in shown)
        rows = collect.collect_rows(results, count)
        collect.require_finite(rows, f"answers to {unit}")
        return rows
    except Exception as error:
        raise RuntimeError(f"evaluator {name!r} failed at step {step}: {error}") from error
