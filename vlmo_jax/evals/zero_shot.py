"""Zero-shot classification: which class's texts lie nearest to an image, without training for it.

Source: CLIP, arXiv 2103.00020, section 3.1: the vectors of a class's texts are averaged.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from vlmo_jax.evals import collect
from vlmo_jax.evals.class_evaluator import ClassEvaluator
from vlmo_jax.evals.class_scores import TOP, Classified, confusion_of
from vlmo_jax.input.evaluation import text_batches
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.pipeline import RowMaker
from vlmo_jax.input.text.prompts import fill_templates
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.tasks.retrieval import Encoders
from vlmo_jax.tasks.zero_shot import average

SLAB_ENTRIES = 2**25  # similarities held at once: 256 MiB, and as much for their order


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
    step = max(1, SLAB_ENTRIES // len(prototypes))
    slabs = [
        _nearest(vectors[row : row + step], prototypes) for row in range(0, len(vectors), step)
    ]
    best, scores = (np.concatenate(part) for part in zip(*slabs, strict=True))
    return Classified(truth, best, scores, confusion_of(truth, best[:, 0], len(prototypes)))


def _nearest(vectors: np.ndarray, prototypes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes nearest to each image and their similarities, both [n, up to 5]."""
    similarity = vectors.astype(np.float64) @ prototypes.T
    best = np.argsort(-similarity, axis=1, kind="stable")[:, :TOP]
    return best, np.take_along_axis(similarity, best, axis=1)


class ZeroShotEvaluator(ClassEvaluator):
    """Classifies the images of one split.

    Args:
        source: the records.
        truth: [N], numbers of their classes.
        classes: what is chosen from.
        tokenizer: of `load_tokenizer`.
        images: function of the records that makes the rows of an evaluation, such as `EvalImages`
            with its rows.
        text_length: of the model.
        batch_size, mesh: see `ClassEvaluator`; texts go by the same.
        options: `name` and `loading`, see there.

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
        images: Callable[[Sequence[Any]], RowMaker],
        text_length: int,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        **options: Any,
    ) -> None:
        super().__init__(
            source,
            truth,
            classes.labels,
            maker=images(source),
            batch_size=batch_size,
            mesh=mesh,
            **options,
        )
        self._classes, self._tokenizer, self._text_length = classes, tokenizer, text_length
        self._batch_size, self._mesh = batch_size, mesh

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
        vectors = self._answer(lambda batch: encoders.encode_image(params, batch), step=step)
        classified = classify(vectors, self._prototypes(encoders, params), self.truth)
        head = (
            f"{self.name} at step {step}: {self.num_records:,} images of"
            f" {len(self.labels):,} classes, zero-shot with"
            f" {len(self._classes.templates)} templates"
        )
        return self.told(classified, head), classified

    def _prototypes(self, encoders: Encoders, params: Any) -> np.ndarray:
        texts, counts = class_texts(self._classes)
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


def class_texts(classes: Classes) -> tuple[list[str], list[int]]:
    """The texts of all classes, and how many each has."""
    texts = [fill_templates(names, classes.templates) for names in classes.names]
    return [text for its in texts for text in its], [len(its) for its in texts]
