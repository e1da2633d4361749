"""Evaluation of a visual tokenizer on held-out images: PSNR of reconstructions, and how its codes
are used.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vlmo_jax.datasets import Record
from vlmo_jax.evals import collect
from vlmo_jax.evals.evaluation import check_batch_size, largest, metric_names
from vlmo_jax.evals.predictions import write_predictions
from vlmo_jax.input.evaluation import image_batches
from vlmo_jax.input.hosts import Host
from vlmo_jax.reports.metrics import announce, progress
from vlmo_jax.reports.pages.reconstruction import reconstruction_page
from vlmo_jax.tasks.visual_tokenizer import VisualTokenizerModel

NUM_EXAMPLES = 24  # images in the picture


class Scores(NamedTuple):
    """psnr float64 [images] in decibels, and codes int64 [images, h * w]."""

    psnr: np.ndarray
    codes: np.ndarray


class ReconstructionEvaluator:
    """Scores a visual tokenizer on every image of one split.

    Args:
        source: the records of the split.
        name: what the result is called.
        image_size: S, side of the images in pixels.
        vocab_size: V, number of codes.
        batch_size: images of a batch over all processes; a multiple of the batch shards of the
            mesh.
        mesh: the mesh of the job.

    Raises:
        ValueError: the batch does not divide over the mesh.
    """

    def __init__(
        self,
        source: Sequence[Record],
        *,
        name: str,
        image_size: int,
        vocab_size: int,
        batch_size: int,
        mesh: jax.sharding.Mesh,
    ) -> None:
        check_batch_size(name, batch_size, mesh)
        self.name, self.num_records = name, len(source)
        self._source, self._image_size, self._vocab_size = source, image_size, vocab_size
        self._batch_size, self._mesh = batch_size, mesh
        self._host = Host(jax.process_index(), jax.process_count())

    def evaluate(
        self, model: VisualTokenizerModel, params: Any, step: int
    ) -> tuple[dict[str, float], Scores]:
        """Reconstructs every image of the split from its codes, prints the result and returns it.

        Args:
            model: the model's functions.
            params: its parameters.
            step: optimizer updates that made them, for messages.

        Returns:
            Metrics psnr (mean over images, decibels), codes_in_use (codes that occur in the split)
            and code_perplexity (so many codes, used equally often, would be as diverse); and the
            scores of each image.

        Raises:
            RuntimeError: anything failed; it names the evaluator and the step.
        """
        total = -(-self.num_records // self._batch_size)
        batches = progress(
            self._batches(self._source),
            total=total,
            description=f"{self.name}: images",
            unit="batch",
            enabled=jax.process_index() == 0,
        )
        try:
            results = (self._apply(model.score, params, batch) for batch in batches)
            rows = collect.collect_rows(results, self.num_records)
            if not np.isfinite(rows.error).all():
                raise collect.BrokenModelError(
                    "an error of reconstruction is not finite; the parameters are broken"
                )
        except Exception as error:
            raise RuntimeError(f"evaluator {self.name!r} failed at step {step}: {error}") from error
        scores = Scores(
            -10 * np.log10(np.maximum(rows.error.astype(np.float64), 1e-10)),
            rows.codes.astype(np.int64),
        )
        share = np.bincount(scores.codes.ravel(), minlength=self._vocab_size) / scores.codes.size
        used = share[share > 0]
        metrics = {
            "psnr": float(scores.psnr.mean()),
            "codes_in_use": float(len(used)),
            "code_perplexity": float(np.exp(-(used * np.log(used)).sum())),
        }
        if jax.process_index() == 0:
            announce(
                f"{self.name} at step {step}: {self.num_records:,} images of"
                f" {scores.codes.shape[1]} codes each\n  PSNR {metrics['psnr']:.2f} dB   codes in"
                f" use {len(used):,} of {self._vocab_size:,}   perplexity"
                f" {metrics['code_perplexity']:.1f}"
            )
        return metrics, scores

    def draw_examples(
        self, model: VisualTokenizerModel, params: Any, scores: Scores, page: Path
    ) -> None:
        """Draws images spread over the split, their codes and reconstructions to a file `page`."""
        count = min(NUM_EXAMPLES, self.num_records, self._batch_size)
        chosen = np.linspace(0, self.num_records - 1, count).astype(int)
        batch = next(self._batches([self._source[int(row)] for row in chosen]))

        def both(params, arrays):
            return arrays["image"], model.reconstruct(params, arrays)

        images, again = collect.collect_rows([self._apply(both, params, batch)], count)
        if jax.process_index() == 0:
            side = round(scores.codes.shape[1] ** 0.5)
            reconstruction_page(
                images,
                scores.codes[chosen].reshape(count, side, side),
                again,
                page,
                vocab_size=self._vocab_size,
                psnr=scores.psnr[chosen],
                title=f"{self.name}: {scores.psnr.mean():.1f} dB on average",
            )

    def _batches(self, source: Sequence[Record]):
        return image_batches(
            source, image_size=self._image_size, batch_size=self._batch_size, host=self._host
        )

    def _apply(self, function, params, batch):
        return collect.apply_to_batch(lambda arrays: function(params, arrays), batch, self._mesh)


@dataclasses.dataclass
class ReconstructionEvaluation:
    """The reconstruction evaluation of a run: an evaluator a split, and a page of examples of the
    largest; see `evaluation.Evaluation`.

    Attributes:
        name: of the evaluation.
        evaluators: one a split.
        model: the model's functions.
    """

    name: str
    evaluators: list[ReconstructionEvaluator]
    model: VisualTokenizerModel

    def run(
        self,
        params: Any,
        step: int,
        page: Path | None = None,
        predictions: Path | None = None,
    ) -> dict[str, float]:
        """Evaluates every split."""
        metrics: dict[str, float] = {}
        shown = largest(self.evaluators)
        for evaluator in self.evaluators:
            values, scores = evaluator.evaluate(self.model, params, step)
            if page is not None and evaluator is shown:
                evaluator.draw_examples(self.model, params, scores, page)
            lines = ({"row": row, "psnr": psnr} for row, psnr in enumerate(scores.psnr))
            write_predictions(predictions, self.name, evaluator.name, lines)
            metrics |= metric_names(self.name, evaluator.name, values)
        return metrics
