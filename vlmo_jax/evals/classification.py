"""Classification: what a trained model takes the images of a split for."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vlmo_jax.evals.class_evaluator import ClassEvaluator
from vlmo_jax.evals.class_scores import TOP, Classified, confusion_of
from vlmo_jax.tasks.classify import Choices

_NAMED = 5


class ClassificationEvaluator(ClassEvaluator):
    """Classifies the images of one split by the head of a model; see `ClassEvaluator`."""

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
        choices = self._answer(lambda batch: classify(params, batch), step=step)
        best = choices.class_ids[:, :TOP]
        confusion = confusion_of(self.truth, best[:, 0], len(self.labels))
        classified = Classified(self.truth, best, choices.probability[:, :TOP], confusion)
        said = f"{self.name} at step {step}: {self.num_records:,} images"
        head = f"{said} of {len(self.labels):,} classes"
        return self.told(classified, head, self._absent(confusion)), classified

    def _absent(self, confusion: np.ndarray) -> Iterator[str]:
        empty = np.flatnonzero(confusion.sum(axis=1) == 0).tolist()
        absent = [self.labels[number] for number in empty]
        if absent:
            named = ", ".join(absent[:_NAMED]) + (" and others" if len(absent) > _NAMED else "")
            yield f"  {len(absent):,} classes of the model have no image here: {named}"
