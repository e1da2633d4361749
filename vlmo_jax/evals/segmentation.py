"""Segmentation: the classes of the pixels of a split, at the original size of its images."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vlmo_jax.evals import collect
from vlmo_jax.evals.evaluation import check_batch_size, largest, metric_names
from vlmo_jax.evals.mean_iou import SegmentationScores, count_pixels, scores_of
from vlmo_jax.evals.predictions import write_predictions
from vlmo_jax.evals.sliding_windows import Window
from vlmo_jax.evals.window_views import LookedAt, Looking
from vlmo_jax.input.segmented_images import Labelling, read_whole
from vlmo_jax.reports.metrics import announce, progress
from vlmo_jax.reports.pages.segmentation import segmentation_page

EXAMPLES, _LISTED = 12, 20


class Segmented(NamedTuple):
    """A split with what a model takes its pixels for.

    Attributes:
        scores: of all images together.
        counts: int64 [3, K], pixels that are right, predicted, labelled.
        per_image: of each image its id and the share of its labelled pixels that is right.
        examples: (image uint8 [h, w, 3], truth, prediction uint8 [h, w]) of some.
    """

    scores: SegmentationScores
    counts: np.ndarray
    per_image: list[tuple[str, float]]
    examples: list[tuple[np.ndarray, np.ndarray, np.ndarray]]


class _Asked(NamedTuple):
    """A window that waits for its prediction: number of the image, of the view, place, pixels."""

    number: int
    view: int
    place: Window
    pixels: np.ndarray


class SegmentationEvaluator:
    """Scores a model on every image of one split.

    Every process reads every image; the windows of a batch lie on all devices, and come back to all
    processes, which count the same pixels. So the sums are those of one process, to the last.

    Args:
        source: the records.
        name: what the result is called.
        classes: [K], names.
        labelling: what the numbers of masks mean.
        looking: how images are looked at.
        batch_size: windows of a batch over all processes; a multiple of the batch shards.
        mesh: the mesh of the job.

    Raises:
        ValueError: the batch does not divide over the mesh.
    """

    def __init__(
        self,
        source: Sequence[Any],
        *,
        name: str,
        classes: Sequence[str],
        labelling: Labelling,
        looking: Looking,
        batch_size: int,
        mesh: jax.sharding.Mesh,
    ) -> None:
        check_batch_size(name, batch_size, mesh)
        self.name, self.num_records, self.classes = name, len(source), classes
        self._source, self._labelling, self._looking = source, labelling, looking
        self._batch_size, self._mesh = batch_size, mesh

    def evaluate(
        self, segment: Callable[[Any, Any], jax.Array], params: Any, step: int
    ) -> tuple[dict[str, float], Segmented]:
        """Segments every image, prints the result and returns it.

        Args:
            segment: of `tasks.segment.make_segmenter`.
            params: of the model.
            step: optimizer updates that made them, for messages.

        Returns:
            mean_iou, pixel_accuracy, class_accuracy (the mean over classes), and what naming the
            most frequent class everywhere gives: baseline_iou and baseline_accuracy; and more.

        Raises:
            RuntimeError: anything failed; it names the evaluator and the step.
        """
        function = lambda batch: segment(params, batch)
        try:
            segmented = self._segment(function)
        except Exception as error:
            raise RuntimeError(f"evaluator {self.name!r} failed at step {step}: {error}") from error
        metrics = metrics_of(segmented)
        if jax.process_index() == 0:
            announce("\n".join(self._describe(metrics, segmented, step)))
        return metrics, segmented

    def _segment(self, function: Callable[[Any], jax.Array]) -> Segmented:
        counts = np.zeros((3, len(self.classes)), np.int64)
        per_image: list[tuple[str, float]] = []
        chosen = set(np.linspace(0, self.num_records - 1, EXAMPLES).astype(int).tolist())
        examples = []
        shown = progress(
            self._finished(function),
            total=self.num_records,
            description=f"{self.name}: images",
            unit="image",
            enabled=jax.process_index() == 0,
        )
        for index, image_id, image, truth, classes in shown:
            found = count_pixels([(classes, truth)], len(self.classes))
            counts += found
            per_image.append((image_id, float(found[0].sum() / max(found[2].sum(), 1))))
            if index in chosen:
                examples.append((np.asarray(image), truth, classes))
        return Segmented(scores_of(counts), counts, per_image, examples)

    def _finished(self, function: Callable[[Any], jax.Array]) -> Iterator[tuple]:
        """Yields (index, id, image, truth, classes) of each image, in order."""
        images: dict[int, tuple] = {}
        queue: collections.deque[_Asked] = collections.deque()
        for index in range(self.num_records):
            image_id, image, truth = read_whole(self._source, index, self._labelling)
            looked = LookedAt(image, self._looking)
            images[index] = (image_id, image, truth, looked)
            for view, place, pixels in looked.windows():
                queue.append(_Asked(index, view, place, pixels))
                if len(queue) == self._batch_size:
                    self._predict(function, queue, images)
            yield from _done(images)
        if queue:
            self._predict(function, queue, images)
        yield from _done(images)

    def _predict(
        self,
        function: Callable[[Any], jax.Array],
        queue: collections.deque[_Asked],
        images: Mapping[int, tuple],
    ) -> None:
        """Predicts all windows that wait."""
        pixels = np.zeros((self._batch_size, *queue[0].pixels.shape), np.uint8)
        for row, asked in enumerate(queue):
            pixels[row] = asked.pixels
        logits = collect.collect_examples(function, {"image": pixels}, self._mesh)
        collect.require_finite(logits, "windows")
        for row, asked in enumerate(queue):
            images[asked.number][-1].add(asked.view, asked.place, logits[row])
        queue.clear()

    def _describe(
        self, metrics: Mapping[str, float], segmented: Segmented, step: int
    ) -> Iterator[str]:
        pixels = int(segmented.counts[2].sum())
        yield (
            f"{self.name} at step {step}: {self.num_records:,} images, {pixels:,} labelled pixels"
            f" of {len(self.classes):,} classes"
        )
        for name, value in metrics.items():
            yield f"  {name.replace('_', ' '):<24}{100 * value:6.2f} %"
        absent = [self.classes[int(n)] for n in np.flatnonzero(segmented.counts[2] == 0)]
        if absent:
            named = ", ".join(absent[:5]) + (" and others" if len(absent) > 5 else "")
            yield f"  {len(absent):,} classes of the model have no pixel here: {named}"
        yield from format_table(class_table(self.classes, segmented))


def _done(images: dict[int, tuple]) -> Iterator[tuple]:
    """Takes the first images away, as long as nothing of them waits."""
    for index in list(images):
        image_id, image, truth, looked = images[index]
        if looked.waiting:
            return
        del images[index]
        yield index, image_id, image, truth, looked.classes()


def metrics_of(segmented: Segmented) -> dict[str, float]:
    """See `SegmentationEvaluator.evaluate`."""
    scores, labelled = segmented.scores, segmented.counts[2]
    most = float(labelled.max() / labelled.sum())
    return {
        "mean_iou": scores.mean_iou,
        "pixel_accuracy": scores.pixel_accuracy,
        "class_accuracy": scores.mean_accuracy,
        "baseline_iou": most / int((labelled > 0).sum()),
        "baseline_accuracy": most,
    }


def class_table(classes: Sequence[str], segmented: Segmented) -> list[dict[str, Any]]:
    """Of each class that is labelled or predicted, the most frequent first: its share of the
    labelled pixels, IoU and accuracy (None without a label), plain values.
    """
    _, predicted, labelled = segmented.counts
    rows = []
    for number in np.argsort(-labelled, kind="stable"):
        if labelled[number] or predicted[number]:
            accuracy = float(segmented.scores.accuracy[number]) if labelled[number] else None
            rows.append(
                {
                    "class": classes[number],
                    "share": float(labelled[number] / labelled.sum()),
                    "iou": float(segmented.scores.iou[number]),
                    "accuracy": accuracy,
                }
            )
    return rows


def format_table(rows: Sequence[Mapping[str, Any]], limit: int = _LISTED) -> list[str]:
    """`class_table` as lines, the first `limit` of it."""
    lines = [f"  {'class':<28} {'pixels':>8} {'IoU':>8} {'accuracy':>9}"]
    for row in rows[:limit]:
        accuracy = "" if row["accuracy"] is None else f"{row['accuracy']:9.2%}"
        lines.append(f"  {row['class'][:28]:<28} {row['share']:8.2%} {row['iou']:8.2%} {accuracy}")
    return lines + ([f"  and {len(rows) - limit:,} more classes"] if len(rows) > limit else [])


@dataclasses.dataclass
class SegmentationEvaluation:
    """The evaluators of a run; see `evaluation.Evaluation`.

    Attributes:
        name: of the evaluation.
        evaluators: one a split.
        segment: of `tasks.segment.make_segmenter`.
    """

    name: str
    evaluators: list[SegmentationEvaluator]
    segment: Callable[[Any, Any], jax.Array]

    def run(
        self,
        params: Any,
        step: int,
        page: Path | None = None,
        predictions: Path | None = None,
    ) -> dict[str, float]:
        """Evaluates every split; draws images, truths and predictions of the largest."""
        metrics: dict[str, float] = {}
        shown = largest(self.evaluators)
        for evaluator in self.evaluators:
            scores, segmented = evaluator.evaluate(self.segment, params, step)
            metrics |= metric_names(self.name, evaluator.name, scores)
            lines = (
                {"image_id": image_id, "pixel_accuracy": round(share, 6)}
                for image_id, share in segmented.per_image
            )
            write_predictions(predictions, self.name, evaluator.name, lines)
            if page is not None and evaluator is shown and jax.process_index() == 0:
                page.parent.mkdir(parents=True, exist_ok=True)
                title = f"{evaluator.name}: mean IoU {scores['mean_iou']:.1%}"
                segmentation_page(segmented.examples, evaluator.classes, page, title=title)
        return metrics
