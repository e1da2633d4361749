"""Which of two captions is an image's own: a right one against one of another image."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vlmo_jax.evals.evaluation import metric_names
from vlmo_jax.evals.predictions import write_predictions
from vlmo_jax.evals.retrieval import RetrievalEvaluator
from vlmo_jax.evals.retrieval_search import Vectors
from vlmo_jax.reports.metrics import announce
from vlmo_jax.tasks.retrieval import Encoders

SEED = 0  # of the wrong captions, the same ones for every model


def draw_wrong_texts(texts: list[str], text_image: np.ndarray, seed: int = SEED) -> np.ndarray:
    """A caption of another image for each image, in other words than any of its own.

    Args:
        texts: all captions.
        text_image: [texts] int, the row of the image of each.
        seed: of the draw.

    Returns:
        [images] int, rows of captions.

    Raises:
        ValueError: an image has no wrong caption.
    """
    rng = np.random.default_rng(seed)
    words = np.array([" ".join(text.lower().split()) for text in texts])
    wrong = np.zeros(int(text_image.max()) + 1, np.int64)
    for image in range(len(wrong)):
        own = set(words[text_image == image])
        found = next((row for row in rng.permutation(len(texts)) if words[row] not in own), None)
        if found is None:
            raise ValueError(
                "a choice needs captions in other words than an image's own; this split has none"
            )
        wrong[image] = found
    return wrong


class Chosen(NamedTuple):
    """Scores of captions: float32 [images] each.

    Attributes:
        right: of each image's own first caption.
        wrong: of the one of another image.
    """

    right: np.ndarray
    wrong: np.ndarray


class ChoiceEvaluator(RetrievalEvaluator):
    """Scores a model by how often it prefers an image's first caption to one of another image.

    Args:
        arguments, options: as of RetrievalEvaluator.
        by_pairs: whether each pair is scored by the fused model, not by vectors.
    """

    def __init__(self, *arguments: Any, by_pairs: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._by_pairs = by_pairs
        self._right = np.searchsorted(self.text_image, np.arange(self.num_records))
        self._wrong = draw_wrong_texts(self.texts, self.text_image)

    def choose(self, encoders: Encoders, params: Any, step: int) -> tuple[dict[str, float], Chosen]:
        """Scores both captions of every image, prints the result and returns it.

        Args:
            encoders: the model.
            params: its parameters.
            step: updates that made them, for messages.

        Returns:
            `accuracy`, the share of images whose own caption has the higher score, a tie as half
            of one; of a model that judges pairs also `judged_accuracy`, the share of all pairs that
            it judges right by whether the score is above 0. And the scores.

        Raises:
            RuntimeError: anything failed; it names the evaluator and the step.
        """
        score = self._by_matching if self._by_pairs else self._by_vectors
        try:
            chosen = score(encoders, params)
        except Exception as error:
            raise RuntimeError(f"evaluator {self.name!r} failed at step {step}: {error}") from error
        right, wrong = chosen
        metrics = {"accuracy": float(np.mean((right > wrong) + 0.5 * (right == wrong)))}
        if self._by_pairs:
            metrics["judged_accuracy"] = float(np.mean([right > 0, wrong <= 0]))
        if jax.process_index() == 0:
            shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in metrics.items())
            announce(
                f"{self.name} at step {step}: {self.num_records:,} images, each with its caption"
                f" and a wrong one: {shown} (chance 50 %)"
            )
        return metrics, chosen

    def lines(self, chosen: Chosen) -> Iterator[dict[str, Any]]:
        """Both captions of each image with their scores."""
        for row, image_id in enumerate(self.image_ids):
            yield {
                "image_id": image_id,
                "right": self.texts[self._right[row]],
                "wrong": self.texts[self._wrong[row]],
                "right_score": float(chosen.right[row]),
                "wrong_score": float(chosen.wrong[row]),
            }

    def _by_vectors(self, encoders, params) -> Chosen:
        found = self._search(encoders, params).to_text.similar
        assert isinstance(found, Vectors)
        image, text = found.queries, found.candidates
        return Chosen(*(np.sum(image * text[rows], axis=-1) for rows in (self._right, self._wrong)))

    def _by_matching(self, encoders, params) -> Chosen:
        images = np.arange(self.num_records)
        both = np.concatenate([self._right, self._wrong])
        plan, scores = self._match(encoders, params, np.tile(images, 2), both)
        return Chosen(*(scores[plan.places(images, rows)] for rows in (self._right, self._wrong)))


@dataclasses.dataclass
class ChoiceEvaluation:
    """The evaluators of a run and the model's functions they call; see `evaluation.Evaluation`.

    Attributes:
        name: of the evaluation.
        evaluators: one a split.
        encoders: functions of the model.
    """

    name: str
    evaluators: list[ChoiceEvaluator]
    encoders: Encoders

    def run(
        self,
        params: Any,
        step: int,
        page: Path | None = None,
        predictions: Path | None = None,
    ) -> dict[str, float]:
        """Scores every split and writes what the model says of it; nothing is drawn."""
        metrics: dict[str, float] = {}
        for evaluator in self.evaluators:
            scores, chosen = evaluator.choose(self.encoders, params, step)
            write_predictions(predictions, self.name, evaluator.name, evaluator.lines(chosen))
            metrics |= metric_names(self.name, evaluator.name, scores)
        return metrics
