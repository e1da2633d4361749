"""An evaluation that asks a model about every example of its splits, whatever it asks."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from vlmo_jax.evals.evaluation import largest, metric_names
from vlmo_jax.evals.predictions import write_predictions


class AskingEvaluator(Protocol):
    """Asks a model about every example of one split.

    Attributes:
        name: what the result is called.
        num_records: examples of the split.
    """

    name: str
    num_records: int

    def evaluate(self, function: Any, params: Any, step: int, /) -> tuple[dict[str, float], Any]:
        """Asks about every example, prints the result and returns it.

        Args:
            function: of the model, or several.
            params: its parameters.
            step: optimizer updates that made them, for messages.

        Returns:
            Scores by name; and all that was found, for the functions below.
        """

    def lines(self, found: Any, /) -> Iterable[Mapping[str, Any]]:
        """What the model says of each example; see `predictions.write_predictions`."""

    def write_beside(self, found: Any, stem: Path, /) -> None:
        """Writes it in the forms of others, too, to files whose names begin with a stem."""

    def draw(self, found: Any, page: Path, /) -> None:
        """Draws some of it to a picture."""


@dataclasses.dataclass
class AnsweredEvaluation:
    """The evaluators of a run; see `evaluation.Evaluation`.

    Attributes:
        name: of the evaluation.
        evaluators: one a split.
        function: of the model, or several, as the evaluators take them.
    """

    name: str
    evaluators: Sequence[AskingEvaluator]
    function: Any

    def run(
        self,
        params: Any,
        step: int,
        page: Path | None = None,
        predictions: Path | None = None,
    ) -> dict[str, float]:
        """Evaluates every split, writes what the model says of all and draws some of the largest;
        see `evaluation.Evaluation.run`.
        """
        metrics: dict[str, float] = {}
        shown = largest(self.evaluators)
        for evaluator in self.evaluators:
            scores, found = evaluator.evaluate(self.function, params, step)
            metrics |= metric_names(self.name, evaluator.name, scores)
            write_predictions(predictions, self.name, evaluator.name, evaluator.lines(found))
            if jax.process_index() == 0:
                if predictions is not None:
                    evaluator.write_beside(found, predictions / f"{self.name}_{evaluator.name}")
                if page is not None and evaluator is shown:
                    page.parent.mkdir(parents=True, exist_ok=True)
                    evaluator.draw(found, page)
        return metrics
