"""Classification: what a trained model takes the images of a split for."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vlmo_jax.evals.answered_split import answer_split
from vlmo_jax.evals.class_scores import (
    TOP,
    Classified,
    class_metrics,
    class_table,
    confusion_of,
    format_table,
)
from vlmo_jax.evals.evaluation import check_batch_size, metric_lines
from vlmo_jax.input.pipeline import Loading, RowMaker
from vlmo_jax.reports.metrics import announce
from vlmo_jax.tasks.classify import Choices

_NAMED = 5


class ClassificationEvaluator:
    """Classifies the images of one split.

    Args:
        source: the records.
        truth: [N], numbers of their classes.
        classes: [K], names of those that the model chooses from.
        name: what the result is called.
        maker: of the rows of an evaluation.
        batch_size: images of a batch over all processes; a multiple of the batch shards of the
            mesh.
        mesh: the mesh of the job.
        loading: how batches are made.

    Raises:
        ValueError: a size is impossible, or the split is empty.
    """

    def __init__(
        self,
        source: Sequence[Any],
        truth: Sequence[int],
        classes: Sequence[str],
        *,
        name: str,
        maker: RowMaker,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        loading: Loading,
    ) -> None:
        check_batch_size(name, batch_size, mesh)
        self.name, self.num_records, self.source = name, len(source), source
        self._truth, self.labels = np.asarray(truth), tuple(classes)
        self._run = functools.partial(
            answer_split,
            maker=maker,
            name=name,
            batch_size=batch_size,
            mesh=mesh,
            loading=loading,
            unit="images",
        )

    def evaluate(
        self, classify: Callable[[Any, Any], Choices], params: Any, step: int
    ) -> tuple[dict[str, float], Classified]:
        """Classifies every image, prints the result and returns it.

        Args:
            classify: of `tasks.classify.make_classifier`.
            params: of the model.
            step: optimizer updates that made them, for messages.

        Returns:
            See `class_metrics`; and what the images are taken for.

        Raises:
            RuntimeError: anything failed; it names the evaluator and the step.
        """
        choices = self._run(lambda batch: classify(params, batch), step=step)
        best = choices.class_ids[:, :TOP]
        confusion = confusion_of(self._truth, best[:, 0], len(self.labels))
        classified = Classified(self._truth, best, choices.probability[:, :TOP], confusion)
        metrics = class_metrics(classified)
        if jax.process_index() == 0:
            announce("\n".join(self._describe(metrics, classified, step)))
        return metrics, classified

    def _describe(
        self, metrics: Mapping[str, float], classified: Classified, step: int
    ) -> Iterator[str]:
        said = f"{self.name} at step {step}: {self.num_records:,} images"
        yield f"{said} of {len(self.labels):,} classes"
        yield from metric_lines(metrics)
        empty = np.flatnonzero(classified.confusion.sum(axis=1) == 0).tolist()
        absent = [self.labels[number] for number in empty]
        if absent:
            named = ", ".join(absent[:_NAMED]) + (" and others" if len(absent) > _NAMED else "")
            yield f"  {len(absent):,} classes of the model have no image here: {named}"
        yield from format_table(class_table(self.labels, classified.confusion))
