"""Masked modelling on a whole split: what the evaluations of text and of images share."""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from vlmo_jax.evals import collect
from vlmo_jax.reports.metrics import progress


def score_split(
    score: Callable[[dict], jax.Array],
    batches: Iterable[dict[str, np.ndarray]],
    *,
    name: str,
    num_rows: int,
    batch_size: int,
    mesh: jax.sharding.Mesh,
    step: int,
    prefix: str,
    unit: str,
) -> tuple[dict[str, float], np.ndarray]:
    """Means over all masked places of a split.

    Args:
        score: jitted function of a batch of global arrays; see
            objectives.masked_language.masked_sums.
        batches: this process's rows of the split, with `index` and `valid`.
        name: of the evaluator.
        num_rows, batch_size: rows of the split and of a batch, over all processes.
        mesh: the mesh of the job.
        step: optimizer updates that made the parameters, for messages.
        prefix: of the names, "mlm" or "mim".
        unit: what a row is, in the plural.

    Returns:
        {"<prefix>_loss", "<prefix>_accuracy"} (0 to 1), and of each row its loss, how many of its
        masked places are right, and how many it has: [rows, 3] float64.

    Raises:
        RuntimeError: anything failed; it names the evaluator and the step.
    """
    total = -(-num_rows // batch_size)
    shown = progress(
        batches,
        total=total,
        description=f"{name}: {unit}",
        unit="batch",
        enabled=jax.process_index() == 0,
    )
    try:
        results = (collect.apply_to_batch(score, batch, mesh) for batch in shown)
        sums = collect.collect_rows(results, num_rows).astype(np.float64)
        loss, right, count = sums.sum(0)
        if not np.isfinite(loss):
            raise collect.BrokenModelError(f"the loss is {loss}; the parameters are broken")
        if not count:
            raise collect.NothingToEvaluateError(
                f"there is nothing to evaluate: none of the {num_rows} {unit} has a masked place"
            )
    except Exception as error:
        raise RuntimeError(f"evaluator {name!r} failed at step {step}: {error}") from error
    metrics = {f"{prefix}_loss": float(loss / count), f"{prefix}_accuracy": float(right / count)}
    return metrics, sums


def masked_predictions(sums: np.ndarray) -> Iterator[dict[str, float | None]]:
    """The rows of a split for a file of predictions.

    Args:
        sums: [rows, 3] of `score_split`.

    Yields:
        row (its number in the split), loss (mean over its masked places, None where it has none),
        right and masked (how many).
    """
    for row, (loss, right, count) in enumerate(sums):
        mean = loss / count if count else None
        yield {"row": row, "loss": mean, "right": int(right), "masked": int(count)}
