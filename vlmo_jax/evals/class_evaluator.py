"""What evaluators of classes share, whatever tells the classes."""

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vlmo_jax.evals.answered_split import answer_split
from vlmo_jax.evals.class_scores import (
    Classified,
    class_metrics,
    class_table,
    format_table,
    prediction_lines,
)
from vlmo_jax.evals.evaluation import check_batch_size, metric_lines
from vlmo_jax.input.pipeline import Loading, RowMaker
from vlmo_jax.reports.metrics import announce
from vlmo_jax.reports.pages.confusions import confusions_page


class ClassEvaluator:
    """The part of an `AskingEvaluator` of classes that does not depend on what tells them.

    Args:
        source: the records of the split.
        truth: [N], numbers of their classes.
        labels: [C], names of the classes that are chosen from.
        name: what the result is called.
        maker: of the rows of an evaluation.
        batch_size: rows of a batch over all processes; a multiple of the batch shards of the mesh.
        mesh: the mesh of the job.
        loading: how batches are made.

    Attributes:
        name, source, labels: the same.
        num_records: N.
        truth: as an array.

    Raises:
        ValueError: a size is impossible, or the split is empty.
    """

    def __init__(
        self,
        source: Sequence[Any],
        truth: Sequence[int],
        labels: Sequence[str],
        *,
        name: str,
        maker: RowMaker,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        loading: Loading,
    ) -> None:
        check_batch_size(name, batch_size, mesh)
        self.name, self.num_records, self.source = name, len(source), source
        self.labels, self.truth = labels, np.asarray(truth)
        self._answer = functools.partial(
            answer_split,
            maker=maker,
            name=name,
            batch_size=batch_size,
            mesh=mesh,
            loading=loading,
            unit="images",
        )

    def told(
        self, classified: Classified, head: str, notes: Iterable[str] = ()
    ) -> dict[str, float]:
        """Prints what the images are taken for, and returns `class_metrics`.

        Args:
            classified: the split.
            head: the first line.
            notes: lines between the metrics and the table of classes.
        """
        metrics = class_metrics(classified)
        if jax.process_index() == 0:
            table = format_table(class_table(self.labels, classified.confusion))
            announce("\n".join([head, *metric_lines(metrics), *notes, *table]))
        return metrics

    def lines(self, classified: Classified) -> Iterator[dict[str, Any]]:
        """See `answered_evaluation.AskingEvaluator`."""
        return prediction_lines(self.source, self.labels, classified)

    def write_beside(self, classified: Classified, stem: Path) -> None:
        """See `answered_evaluation.AskingEvaluator`: nobody else has a form for classes."""

    def draw(self, classified: Classified, page: Path) -> None:
        """Draws what the images of each class are taken for."""
        title = f"{self.name}: {class_metrics(classified)['accuracy']:.1%} right"
        confusions_page(self.labels, classified.confusion, page, title=title)
