"""Masked image modelling on held-out images: loss and accuracy with fixed masks, and pictures of
what the model fills in.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vlmo_jax.datasets import Record
from vlmo_jax.evals import collect
from vlmo_jax.evals.evaluation import check_batch_size, largest, metric_names
from vlmo_jax.evals.masked import masked_predictions, score_split
from vlmo_jax.evals.predictions import write_predictions
from vlmo_jax.input.evaluation import split_batches
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.masked_images import EvalMaskedImages, MaskedViews
from vlmo_jax.input.schema import empty_batch
from vlmo_jax.reports.metrics import announce
from vlmo_jax.reports.pages.masked_images import masked_images_page
from vlmo_jax.tasks.image_pretrain import MaskedImageModel

_GREY, _NUM_EXAMPLES = 128, 8


class MaskedImageEvaluator:
    """Scores a model by masked image modelling on one split: every image, with the same hidden
    patches each time.

    Args:
        source: the records of the split.
        name: what the result is called.
        views: sizes, as in training.
        batch_size: images of a batch over all processes; a multiple of the batch shards of the
            mesh.
        mesh: the mesh of the job.

    Raises:
        ValueError: the batch does not divide over the mesh, or the split is empty.
    """

    def __init__(
        self,
        source: Sequence[Record],
        views: MaskedViews,
        *,
        name: str,
        batch_size: int,
        mesh: jax.sharding.Mesh,
    ) -> None:
        check_batch_size(name, batch_size, mesh)
        self._maker = EvalMaskedImages(source, views)
        self.name, self._mesh, self._batch_size = name, mesh, batch_size

    @property
    def num_records(self) -> int:
        """Images of the split."""
        return len(self._maker.source)

    def evaluate(
        self, model: MaskedImageModel, params: Any, frozen: Any, step: int
    ) -> dict[str, float]:
        """Scores every hidden patch of the split, prints the result and returns it.

        Args:
            model: the model's functions.
            params: its parameters.
            frozen: parameters of the visual tokenizer.
            step: optimizer updates that made them, for messages.

        Returns:
            mim_loss (mean over all hidden patches of the split) and mim_accuracy (0 to 1).

        Raises:
            RuntimeError: anything failed; it names the evaluator and the step.
        """
        return self.score(model, params, frozen, step)[0]

    def score(
        self, model: MaskedImageModel, params: Any, frozen: Any, step: int
    ) -> tuple[dict[str, float], np.ndarray]:
        """Evaluates as `evaluate` does, and returns the sums of each image, too; see
        `score_split`.
        """
        batches = split_batches(
            self._maker,
            batch_size=self._batch_size,
            host=Host(jax.process_index(), jax.process_count()),
        )
        metrics, sums = score_split(
            lambda batch: model.score(params, frozen, batch),
            batches,
            name=self.name,
            num_rows=len(self._maker.source),
            batch_size=self._batch_size,
            mesh=self._mesh,
            step=step,
            prefix="mim",
            unit="images",
        )
        if jax.process_index() == 0:
            announce(
                f"{self.name} at step {step}: {len(self._maker.source):,} images,"
                f" {int(sums[:, 2].sum()):,} hidden patches, the same every time\n  MIM loss"
                f" {metrics['mim_loss']:.4f}   accuracy {metrics['mim_accuracy']:.2%}"
            )
        return metrics, sums

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self._maker.views.patch_size

    def examples(self, count: int = _NUM_EXAMPLES) -> dict[str, np.ndarray]:
        """The model's inputs [N, ...] for some images of the split, evenly spaced, at most `count`;
        the same on every process.
        """
        numbers = np.linspace(0, self.num_records - 1, min(count, self.num_records)).astype(int)
        batch = empty_batch(self._maker.columns, len(numbers))
        for row, number in enumerate(numbers):
            self._maker.write(batch, row, int(number), int(number))
        return {name: batch[name] for name in ("image", "tokenizer_image", "masked_positions")}


@dataclasses.dataclass
class MaskedImagesEvaluation:
    """The masked-image evaluation of a run: an evaluator a split, and a picture of images of the
    largest; see `evaluation.Evaluation`.

    Attributes:
        name: of the evaluation.
        evaluators: one a split.
        model: the model's functions.
        frozen: parameters of the visual tokenizer, on the devices.
        draw: whether the visual tokenizer has a decoder, for pictures.
        mesh: the mesh of the job.
    """

    name: str
    evaluators: list[MaskedImageEvaluator]
    model: MaskedImageModel
    frozen: Any
    draw: bool
    mesh: jax.sharding.Mesh

    def run(
        self,
        params: Any,
        step: int,
        page: pathlib.Path | None = None,
        predictions: pathlib.Path | None = None,
    ) -> dict[str, float]:
        """Evaluates every split, and draws what the model makes of hidden patches."""
        metrics: dict[str, float] = {}
        for evaluator in self.evaluators:
            scores, sums = evaluator.score(self.model, params, self.frozen, step)
            lines = masked_predictions(sums)
            write_predictions(predictions, self.name, evaluator.name, lines)
            metrics |= metric_names(self.name, evaluator.name, scores)
        shown = largest(self.evaluators)
        if page is not None and shown is not None and self.draw:
            self._draw(shown, params, step, page)
        return metrics

    def _draw(self, shown, params, step, page):
        examples = shown.examples()
        drawn = collect.collect_examples(
            lambda batch: self.model.draw(params, self.frozen, batch), examples, self.mesh
        )
        hidden = hide_patches(examples["image"], examples["masked_positions"], shown.patch_size)
        columns = {
            "image": examples["image"],
            "what the model sees": hidden,
            "its codes, decoded": drawn[:, 0],
            "with the hidden ones predicted": drawn[:, 1],
        }
        if jax.process_index() == 0:
            title = f"Hidden patches filled in after {step:,} steps"
            masked_images_page(columns, page, title=title)


def hide_patches(image: np.ndarray, masked_positions: np.ndarray, patch_size: int) -> np.ndarray:
    """Paints the patches `masked_positions` [N, M], -1 where unused, of images uint8 [N, S, S, 3]
    grey.
    """
    grid = image.shape[1] // patch_size
    hidden = (masked_positions[:, :, None] == np.arange(grid**2)).any(1).reshape(-1, grid, grid)
    pixels = hidden.repeat(patch_size, 1).repeat(patch_size, 2)[..., None]
    return np.where(pixels, np.uint8(_GREY), image)
