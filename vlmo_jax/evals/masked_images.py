"""Masked image modelling on held-out images: loss and accuracy with fixed masks, and pictures of
what the model fills in.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vlmo_jax.datasets import Record
from vlmo_jax.evals import collect
from vlmo_jax.evals.masked import check_batch_size, score_split
from vlmo_jax.input.evaluation import split_batches
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.masked_images import EvalMaskedImages, MaskedViews
from vlmo_jax.input.schema import empty_batch
from vlmo_jax.parallel import sharding
from vlmo_jax.reports.metrics import announce
from vlmo_jax.reports.pictures import masked_images_page
from vlmo_jax.tasks.image_pretrain import (
    ImagePretrainTask,
    MaskedImageModel,
    make_masked_image_model,
)

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
    ):
        check_batch_size(name, batch_size, mesh)
        self._maker = EvalMaskedImages(source, views)
        self.name, self._mesh, self._batch_size = name, mesh, batch_size

    def evaluate(
        self, model: MaskedImageModel, params: Any, extra: Any, step: int
    ) -> dict[str, float]:
        """Scores every hidden patch of the split, prints the result and returns it.

        Args:
            model: the model's functions.
            params: its parameters.
            extra: mapping with the parameters of the visual tokenizer.
            step: optimizer updates that made them, for messages.

        Returns:
            mim_loss (mean over all hidden patches of the split) and mim_accuracy (0 to 1).

        Raises:
            RuntimeError: anything failed; it names the evaluator and the step.
        """
        batches = split_batches(
            self._maker,
            batch_size=self._batch_size,
            host=Host(jax.process_index(), jax.process_count()),
        )
        metrics, count = score_split(
            lambda batch: model.score(params, extra, batch),
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
                f"{self.name} at step {step}: {len(self._maker.source):,} images, {count:,} hidden"
                f" patches, the same every time\n  MIM loss {metrics['mim_loss']:.4f}   accuracy"
                f" {metrics['mim_accuracy']:.2%}"
            )
        return metrics


@dataclasses.dataclass
class ImageEvaluation:
    """The evaluations of a run on images: an evaluator a split, and a picture of images of the
    largest.
    """

    evaluators: list[MaskedImageEvaluator]
    model: MaskedImageModel
    extra: Any
    examples: EvalMaskedImages | None
    mesh: jax.sharding.Mesh

    @classmethod
    def build(
        cls,
        splits: Mapping[str, Sequence[Record]],
        views: MaskedViews,
        graphdef: Any,
        task: ImagePretrainTask,
        extra: Any,
        mesh: jax.sharding.Mesh,
        *,
        batch_size: int,
        draw: bool,
    ) -> "ImageEvaluation":
        """Builds an evaluator for each split.

        Args:
            splits: name -> records; without any nothing is evaluated.
            views: sizes, as in training.
            graphdef: of the model.
            task, extra: with the visual tokenizer and its parameters.
            mesh: the mesh of the job.
            batch_size: images of a batch over all processes.
            draw: whether the tokenizer has a decoder, for pictures.
        """
        evaluators = [
            MaskedImageEvaluator(source, views, name=name, batch_size=batch_size, mesh=mesh)
            for name, source in splits.items()
        ]
        largest = max(splits.values(), key=len, default=())
        examples = EvalMaskedImages(largest, views) if largest and draw else None
        extra = jax.device_put(extra, sharding.replicated(mesh))
        return cls(evaluators, make_masked_image_model(graphdef, task), extra, examples, mesh)

    def run(self, params: Any, step: int, page: pathlib.Path | None = None) -> dict[str, float]:
        """Evaluates every split, and draws what the model makes of hidden patches.

        Args:
            params: parameters of the model.
            step: updates that made them.
            page: file for the picture; None: no picture.

        Returns:
            `eval/<split>/<metric>` -> value.
        """
        metrics = {}
        for evaluator in self.evaluators:
            scores = evaluator.evaluate(self.model, params, self.extra, step)
            metrics |= {f"eval/{evaluator.name}/{name}": value for name, value in scores.items()}
        if page is not None and self.examples is not None:
            batch, drawn = draw_examples(self.model, params, self.extra, self.examples, self.mesh)
            if jax.process_index() == 0:
                hidden = hide_patches(
                    batch["image"], batch["masked_positions"], self.examples.views.patch_size
                )
                columns = {
                    "image": batch["image"],
                    "what the model sees": hidden,
                    "its codes, decoded": drawn[:, 0],
                    "with the hidden ones predicted": drawn[:, 1],
                }
                masked_images_page(
                    columns, page, title=f"Hidden patches filled in after {step:,} steps"
                )
        return metrics


def draw_examples(
    model: MaskedImageModel,
    params: Any,
    extra: Any,
    maker: EvalMaskedImages,
    mesh: jax.sharding.Mesh,
    count: int = _NUM_EXAMPLES,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Some images of a split, evenly spaced, and what the tokenizer's decoder makes of their codes.

    Args:
        model: the model's functions.
        params: its parameters.
        extra: mapping with the parameters of a visual tokenizer that has a decoder.
        maker: of the rows of the split.
        mesh: the mesh of the job.
        count: how many; fewer if the split has no more.

    Returns:
        The rows of `maker` [N, ...], and uint8 [N, 2, S', S', 3], see MaskedImageModel.draw. The
        same on every process.
    """
    numbers = np.linspace(0, len(maker.source) - 1, min(count, len(maker.source))).astype(int)
    batch = empty_batch(maker.columns, len(numbers))
    for row, number in enumerate(numbers):
        maker.write(batch, row, int(number), int(number))
    rows = collect.padded_rows(len(numbers), mesh)
    arrays = sharding.place_batch(
        {**{name: values[rows] for name, values in batch.items()}, "index": rows}, mesh
    )
    index, valid = arrays.pop("index"), arrays.pop("valid")
    return batch, collect.collect_rows(
        [(model.draw(params, extra, arrays), index, valid)], len(numbers)
    )


def hide_patches(image: np.ndarray, masked_positions: np.ndarray, patch_size: int) -> np.ndarray:
    """Paints the patches `masked_positions` [N, M], -1 where unused, of images uint8 [N, S, S, 3]
    grey.
    """
    grid = image.shape[1] // patch_size
    hidden = (masked_positions[:, :, None] == np.arange(grid**2)).any(1).reshape(-1, grid, grid)
    pixels = hidden.repeat(patch_size, 1).repeat(patch_size, 2)[..., None]
    return np.where(pixels, np.uint8(_GREY), image)
