"""Masked image modelling on held-out images: loss and accuracy with fixed masks."""

from collections.abc import Sequence
from typing import Any

import jax

from vlmo_jax.datasets import Record
from vlmo_jax.evals.masked import check_batch_size, score_split
from vlmo_jax.input.evaluation import split_batches
from vlmo_jax.input.image_pretrain import EvalMaskedImages, MaskedViews
from vlmo_jax.metrics import announce
from vlmo_jax.tasks.image_pretrain import MaskedImageModel


class MaskedImageEvaluator:
    """Scores a model by masked image modelling on one split: every image, with the same hidden patches each time.

    Args:
      source: the records of the split.
      name: what the result is called.
      views: sizes, as in training.
      batch_size: images of a batch over all processes; a multiple of the batch shards of the mesh.
      mesh: the mesh of the job.

    Raises:
      ValueError: the batch does not divide over the mesh, or the split is empty.
    """

    def __init__(self, source: Sequence[Record], views: MaskedViews, *, name: str, batch_size: int, mesh: jax.sharding.Mesh):
        check_batch_size(name, batch_size, mesh)
        self._maker = EvalMaskedImages(source, views)
        self.name, self._mesh, self._batch_size = name, mesh, batch_size

    def evaluate(self, model: MaskedImageModel, params: Any, extra: Any, step: int) -> dict[str, float]:
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
            self._maker, batch_size=self._batch_size, host_index=jax.process_index(), host_count=jax.process_count())
        metrics, count = score_split(
            lambda batch: model.score(params, extra, batch), batches, name=self.name, num_rows=len(self._maker.source),
            batch_size=self._batch_size, mesh=self._mesh, step=step, prefix="mim", unit="images",
        )
        if jax.process_index() == 0:
            announce(f"{self.name} at step {step}: {len(self._maker.source):,} images, {count:,} hidden patches, the same every "
                     f"time\n  MIM loss {metrics['mim_loss']:.4f}   accuracy {metrics['mim_accuracy']:.2%}")
        return metrics
