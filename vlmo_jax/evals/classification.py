"""Classification: what a trained model takes the images of a split for."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
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
    prediction_lines,
)
from vlmo_jax.evals.evaluation import check_batch_size, largest, metric_names
from vlmo_jax.evals.predictions import write_predictions
from vlmo_jax.input.pipeline import Loading, RowMaker
from vlmo_jax.reports.metrics import announce
from vlmo_jax.reports.pages.confusions import confusions_page
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
        self.name, self.num_records, self.source, self.classes = name, len(source), source, classes
        self._truth, self._maker = np.asarray(truth), maker
        self._batch_size, self._mesh, self._loading = batch_size, mesh, loading

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
        choices = answer_split(
            lambda batch: classify(params, batch),
            self._maker,
            name=self.name,
            batch_size=self._batch_size,
            mesh=self._mesh,
            loading=self._loading,
            step=step,
            unit="images",
        )
        best = choices.class_ids[:, :TOP]
        confusion = confusion_of(self._truth, best[:, 0], len(self.classes))
        classified = Classified(self._truth, best, choices.probability[:, :TOP], confusion)
        metrics = class_metrics(classified)
        if jax.process_index() == 0:
            announce("\n".join(self._describe(metrics, classified, step)))
        return metrics, classified

    def _describe(
        self, metrics: Mapping[str, float], classified: Classified, step: int
    ) -> Iterator[str]:
        said = f"{self.name} at step {step}: {self.num_records:,} images"
        yield f"{said} of {len(self.classes):,} classes"
        for name, value in metrics.items():
            yield f"  {name.replace('_', ' '):<24}{100 * value:6.2f} %"
        empty = np.flatnonzero(classified.confusion.sum(axis=1) == 0).tolist()
        absent = [self.classes[number] for number in empty]
        if absent:
            named = ", ".join(absent[:_NAMED]) + (" and others" if len(absent) > _NAMED else "")
            yield f"  {len(absent):,} classes of the model have no image here: {named}"
        yield from format_table(class_table(self.classes, classified.confusion))


@dataclasses.dataclass
class ClassificationEvaluation:
    """The evaluators of a run; see `evaluation.Evaluation`.

    Attributes:
        name: of the evaluation.
        evaluators: one a split.
        classify: of `tasks.classify.make_classifier`.
    """

    name: str
    evaluators: list[ClassificationEvaluator]
    classify: Callable[[Any, Any], Choices]

    def run(
        self,
        params: Any,
        step: int,
        page: Path | None = None,
        predictions: Path | None = None,
    ) -> dict[str, float]:
        """Evaluates every split; draws what the classes of the largest are taken for."""
        metrics: dict[str, float] = {}
        shown = largest(self.evaluators)
        for evaluator in self.evaluators:
            scores, classified = evaluator.evaluate(self.classify, params, step)
            metrics |= metric_names(self.name, evaluator.name, scores)
            lines = prediction_lines(evaluator.source, evaluator.classes, classified)
            write_predictions(predictions, self.name, evaluator.name, lines)
            if page is not None and evaluator is shown and jax.process_index() == 0:
                page.parent.mkdir(parents=True, exist_ok=True)
                title = f"{evaluator.name}: {scores['accuracy']:.1%} right"
                confusions_page(evaluator.classes, classified.confusion, page, title=title)
        return metrics
