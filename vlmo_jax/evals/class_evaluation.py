"""Evaluates splits by what their images are taken for, whatever tells the classes."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from vlmo_jax.evals.class_scores import Classified, prediction_lines
from vlmo_jax.evals.evaluation import largest, metric_names
from vlmo_jax.evals.predictions import write_predictions
from vlmo_jax.reports.pages.confusions import confusions_page


class ClassEvaluator(Protocol):
    """Classifies the images of one split.

    Attributes:
        name: what the result is called.
        num_records: of the split.
        source: the records.
        labels: [C], names of the classes by number.
    """

    name: str
    num_records: int
    source: Sequence[Any]
    labels: tuple[str, ...]

    def evaluate(
        self, functions: Any, params: Any, step: int
    ) -> tuple[dict[str, float], Classified]:
        """Classifies every image, prints the result and returns it.

        Args:
            functions: of the model, such as `tasks.retrieval.Encoders`.
            params: its parameters.
            step: optimizer updates that made them, for messages.
        """


@dataclasses.dataclass
class ClassEvaluation:
    """The evaluators of a run; see `evaluation.Evaluation`.

    Attributes:
        name: of the evaluation.
        evaluators: one a split.
        functions: of the model, that the evaluators call.
    """

    name: str
    evaluators: Sequence[ClassEvaluator]
    functions: Any

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
            scores, classified = evaluator.evaluate(self.functions, params, step)
            metrics |= metric_names(self.name, evaluator.name, scores)
            lines = prediction_lines(evaluator.source, evaluator.labels, classified)
            write_predictions(predictions, self.name, evaluator.name, lines)
            if page is not None and evaluator is shown and jax.process_index() == 0:
                page.parent.mkdir(parents=True, exist_ok=True)
                title = f"{evaluator.name}: {scores['accuracy']:.1%} right"
                confusions_page(evaluator.labels, classified.confusion, page, title=title)
        return metrics
