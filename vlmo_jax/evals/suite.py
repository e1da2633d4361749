"""The evaluations of a recipe: one retrieval evaluator a split, run together."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from vlmo_jax.datasets.sources import open_source, split_sizes
from vlmo_jax.evals.retrieval import RetrievalEvaluator
from vlmo_jax.reports.pages.retrieval import retrieval_page
from vlmo_jax.tasks.retrieval import Encoders, make_encoders


def evaluation_splits(evaluation, train_source, train_split, open_split=open_source):
    """Opens the splits of `config.evals.retrieval` or of another evaluation.

    Where the config names no splits, these are all of the data set (of each, where several are
    joined by "+"), save the one that is trained on or on a part of it, such as "train[:90%]".

    Args:
        evaluation: that part of a config.
        train_source, train_split: the training data; the data set too where `evaluation` names
            none.
        open_split: function of a data set and a split.

    Returns:
        dict name, such as "emoji_unseen_artist" -> records.

    Raises:
        FileNotFoundError, ValueError: no such data set or split.
    """
    parts = [part.partition("[")[0] for part in str(train_split).split("+")]
    trained = {(source, part) for source in str(train_source).split("+") for part in parts}
    opened = {}
    for source in str(evaluation.source or train_source).split("+"):
        splits = tuple(evaluation.splits) or tuple(
            split for split in split_sizes(source) if (source, split) not in trained
        )
        for split in splits:
            name = f"{Path(source).name}_{split}"
            if name in opened:
                raise ValueError(
                    f"two data sets have a split named {name}; rename the folder of one"
                )
            opened[name] = open_split(source, split)
    return opened


@dataclasses.dataclass
class Evaluation:
    """The evaluators of a run and the model's functions they call."""

    evaluators: list[RetrievalEvaluator]
    encoders: Encoders
    rerank_top_k: int

    @classmethod
    def build(cls, config, splits, tokenizer, graphdef, mesh):
        """Builds an evaluator for each split; `graphdef` is the model's."""
        encoders = make_encoders(graphdef, mean=tuple(config.data.mean), std=tuple(config.data.std))
        fields = dict(
            image_size=config.model.image_size,
            text_length=config.model.text_length,
            mesh=mesh,
            batch_size=config.evals.retrieval.batch_size,
        )
        evaluators = [
            RetrievalEvaluator(source, tokenizer, name=name, **fields)
            for name, source in splits.items()
        ]
        return cls(evaluators, encoders, config.evals.retrieval.rerank_top_k)

    def run(self, params: Any, step: int, page: Path | None = None) -> dict[str, float]:
        """Evaluates every split; with a picture, at the end of a run, re-ranked by the ITM head
        too.

        Args:
            params: parameters of the model.
            step: updates that made them.
            page: file for a picture of example queries on the largest split; None: no picture.

        Returns:
            `eval/<split>/<metric>` -> value.
        """
        metrics = {}
        shown = max(self.evaluators, key=lambda evaluator: evaluator.num_images, default=None)
        for evaluator in self.evaluators:
            top_k = 0 if page is None else self.rerank_top_k
            if page is not None and evaluator is shown:
                scores, examples = evaluator.evaluate_with_examples(
                    self.encoders, params, step, top_k
                )
                if jax.process_index() == 0:
                    retrieval_page(*examples, page, title=evaluator.name)
            else:
                scores = evaluator.evaluate(self.encoders, params, step, top_k)
            metrics |= {f"eval/{evaluator.name}/{name}": value for name, value in scores.items()}
        return metrics
