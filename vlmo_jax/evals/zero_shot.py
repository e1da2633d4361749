"""Zero-shot classification: which class's texts lie nearest to an image, without training for it.

Source: CLIP, arXiv 2103.00020, section 3.1: the vectors of a class's texts are averaged.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vlmo_jax.evals import collect
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
from vlmo_jax.input.evaluation import text_batches
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.pipeline import Loading, RowMaker
from vlmo_jax.input.text.prompts import fill_templates
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.reports.metrics import announce
from vlmo_jax.reports.pages.confusions import confusions_page
from vlmo_jax.tasks.retrieval import Encoders
from vlmo_jax.tasks.zero_shot import average


class Classes(NamedTuple):
    """What is chosen from.

    Attributes:
        labels: [C], as the data call the classes.
        names: [C], the names of each.
        templates: that the names are put into.
    """

    labels: list[str]
    names: list[tuple[str, ...]]
    templates: tuple[str, ...]


def classify(vectors: np.ndarray, prototypes: np.ndarray, truth: np.ndarray) -> Classified:
    """Takes each image for the classes whose vectors are nearest.

    Args:
        vectors: float [N, D] of images, of length 1.
        prototypes: float [C, D] of classes, of length 1.
        truth: int [N], their classes.
    """
    count, similarity = len(prototypes), vectors.astype(np.float64) @ prototypes.T
    best = np.argsort(-similarity, axis=1, kind="stable")[:, :TOP]
    confusion = confusion_of(truth, best[:, 0], count)
    return Classified(truth, best, np.take_along_axis(similarity, best, axis=1), confusion)


class ZeroShotEvaluator:
    """Classifies the images of one split.

    Args:
        source: the records.
        truth: [N], numbers of their classes.
        classes: what is chosen from.
        tokenizer: of `load_tokenizer`.
        name: what the result is called.
        images: function of the records that makes the rows of an evaluation, such as `EvalImages`
            with its rows.
        text_length: of the model.
        batch_size: rows of a batch over all processes; a multiple of the batch shards of the mesh.
        mesh: the mesh of the job.
        loading: how batches are made.

    Raises:
        ValueError: a size is impossible, or the split is empty.
    """

    def __init__(
        self,
        source: Sequence[Any],
        truth: Sequence[int],
        classes: Classes,
        tokenizer: Tokenizer,
        *,
        name: str,
        images: Callable[[Sequence[Any]], RowMaker],
        text_length: int,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        loading: Loading,
    ) -> None:
        check_batch_size(name, batch_size, mesh)
        self.name, self.num_records, self.classes = name, len(source), classes
        self.source = source
        self._truth, self._tokenizer = np.asarray(truth), tokenizer
        self._maker = images(source)
        self._text_length, self._batch_size = text_length, batch_size
        self._mesh, self._loading = mesh, loading

    def evaluate(
        self, encoders: Encoders, params: Any, step: int
    ) -> tuple[dict[str, float], Classified]:
        """Classifies every image, prints the result and returns it.

        Args:
            encoders: the model.
            params: its parameters.
            step: optimizer updates that made them, for messages.

        Returns:
            See `class_metrics`; and what the images are taken for.

        Raises:
            RuntimeError: anything failed; it names the evaluator and the step.
        """
        vectors = answer_split(
            lambda batch: encoders.encode_image(params, batch),
            self._maker,
            name=self.name,
            batch_size=self._batch_size,
            mesh=self._mesh,
            loading=self._loading,
            step=step,
            unit="images",
        )
        classified = classify(vectors, self._prototypes(encoders, params), self._truth)
        metrics = class_metrics(classified)
        if jax.process_index() == 0:
            announce("\n".join(self._describe(metrics, classified, step)))
        return metrics, classified

    def _prototypes(self, encoders: Encoders, params: Any) -> np.ndarray:
        texts, counts = class_texts(self.classes)
        host = Host(jax.process_index(), jax.process_count())
        batches = text_batches(
            texts,
            self._tokenizer,
            text_length=self._text_length,
            batch_size=self._batch_size,
            host=host,
        )
        encode = lambda arrays: encoders.encode_text(params, arrays)
        results = (collect.apply_to_batch(encode, batch, self._mesh) for batch in batches)
        vectors = collect.collect_rows(results, len(texts))
        collect.require_finite(vectors, "vectors of class names")
        return average(vectors, counts)

    def _describe(
        self, metrics: Mapping[str, float], classified: Classified, step: int
    ) -> Iterator[str]:
        yield (
            f"{self.name} at step {step}: {self.num_records:,} images of"
            f" {len(self.classes.labels):,} classes, zero-shot with"
            f" {len(self.classes.templates)} templates"
        )
        for name, value in metrics.items():
            yield f"  {name.replace('_', ' '):<24}{100 * value:6.2f} %"
        yield from format_table(class_table(self.classes.labels, classified.confusion))


def class_texts(classes: Classes) -> tuple[list[str], list[int]]:
    """The texts of all classes, and how many each has."""
    texts = [fill_templates(names, classes.templates) for names in classes.names]
    return [text for its in texts for text in its], [len(its) for its in texts]


@dataclasses.dataclass
class ZeroShotEvaluation:
    """The evaluators of a run; see `evaluation.Evaluation`.

    Attributes:
        name: of the evaluation.
        evaluators: one a split.
        encoders: functions of the model.
    """

    name: str
    evaluators: list[ZeroShotEvaluator]
    encoders: Encoders

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
            scores, classified = evaluator.evaluate(self.encoders, params, step)
            metrics |= metric_names(self.name, evaluator.name, scores)
            lines = prediction_lines(evaluator.source, evaluator.classes.labels, classified)
            write_predictions(predictions, self.name, evaluator.name, lines)
            if page is not None and evaluator is shown and jax.process_index() == 0:
                page.parent.mkdir(parents=True, exist_ok=True)
                title = f"{evaluator.name}: {scores['accuracy']:.1%} right"
                confusions_page(evaluator.classes.labels, classified.confusion, page, title=title)
        return metrics
