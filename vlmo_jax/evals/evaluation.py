"""What a run asks of its evaluations, and the splits that they score."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from vlmo_jax.datasets.identity import identify
from vlmo_jax.datasets.sources import (
    EMBEDDED_PREFIX,
    open_records,
    open_source,
    split_names,
    split_sizes,
)
from vlmo_jax.parallel import sharding


class Evaluation(Protocol):
    """One named evaluation: a protocol, the splits it scores, and the model's functions."""

    def run(
        self,
        params: Any,
        step: int,
        page: Path | None = None,
        predictions: Path | None = None,
    ) -> dict[str, float]:
        """Scores every split.

        Args:
            params: parameters of the model.
            step: updates that made them.
            page: file for a picture of examples; None: no picture.
            predictions: folder for what the model says of each example, where the evaluation
                knows it: see `predictions.write_predictions`; None: nothing is written.

        Returns:
            `eval/<evaluation>/<split>/<metric>` -> value.
        """


def metric_names(evaluation: str, split: str, scores: Mapping[str, float]) -> dict[str, float]:
    """The scores of a split by the names that they are written under."""
    return {f"eval/{evaluation}/{split}/{name}": value for name, value in scores.items()}


def metric_lines(metrics: Mapping[str, float], width: int = 24) -> Iterator[str]:
    """Shares from 0 to 1 as percentages, a line each, names padded to a width."""
    for name, value in metrics.items():
        yield f"  {name.replace('_', ' '):<{width}}{100 * value:6.2f} %"


def largest(evaluators: Iterable[Any]) -> Any:
    """The evaluator with the most records, which is shown in pictures; None where there is none."""
    return max(evaluators, key=lambda evaluator: evaluator.num_records, default=None)


def check_batch_size(name: str, batch_size: int, mesh: jax.sharding.Mesh) -> None:
    """Raises ValueError, naming the evaluator, unless a batch divides over the mesh."""
    shards = sharding.num_batch_shards(mesh)
    if batch_size < 1 or batch_size % shards:
        raise ValueError(
            f"evaluator {name!r}: batch_size={batch_size} does not divide over {shards} batch"
            f" shards; use a multiple of {shards}"
        )


def evaluation_splits(
    evaluation: Any,
    train_source: str | None,
    train_split: str,
    open_split: Callable[[str, str], Sequence] = open_source,
) -> dict[str, Sequence]:
    """Opens the splits of a member of `config.evals`.

    Where the config names no splits, these are all of the data set (of each, where several are
    joined by "+"), save the one that is trained on or on a part of it, such as "train[:90%]",
    whatever the folder is called that it is read from.

    Args:
        evaluation: the member.
        train_source, train_split: the training data; the data set too where `evaluation` names
            none.
        open_split: function of a data set and a split.

    Returns:
        dict name, such as "emoji_unseen_artist" -> records.

    Raises:
        FileNotFoundError, ValueError: no such data set or split.
    """
    trained = _trained_splits(train_source, train_split) if not evaluation.splits else []
    opened: dict[str, Sequence] = {}
    for source in split_names(str(evaluation.source or train_source)):
        for split in tuple(evaluation.splits) or tuple(split_sizes(source)):
            name = f"{Path(source.removeprefix(EMBEDDED_PREFIX)).name}_{split}"
            if name in opened:
                raise ValueError(
                    f"two data sets have a split named {name}; rename the folder of one"
                )
            records = open_split(source, split)
            if not any(_same_records((source, split, records), other) for other in trained):
                opened[name] = records
    return opened


Split = tuple[str, str, Sequence]  # data set, name of the split, its records


def _trained_splits(train_source: str | None, train_split: str) -> list[Split]:
    """The whole splits of which a run reads at least a part."""
    if train_source is None:
        return []
    parts = [part.partition("[")[0].strip() for part in str(train_split).split("+")]
    return [
        (source, part, open_records(source, part))
        for source in split_names(train_source)
        for part in parts
        if part in split_sizes(source)
    ]


def _same_records(one: Split, other: Split) -> bool:
    if one[:2] == other[:2]:
        return True
    return len(one[2]) == len(other[2]) and identify(one[2]) == identify(other[2])
