"""The evaluations of a recipe: one retrieval evaluator a split, run together."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from vlmo_jax.datasets import open_source
from vlmo_jax.evals.retrieval import RetrievalEvaluator
from vlmo_jax.pictures import retrieval_page
from vlmo_jax.tasks.retrieval import Encoders, make_encoders


def evaluation_splits(retrieval, default_source):
    """Opens the splits of `config.evals.retrieval`.

    Args:
      retrieval: that part of a config.
      default_source: the data set to use where it names none.

    Returns:
      dict name, such as "emoji_unseen_artist" -> records.

    Raises:
      FileNotFoundError, ValueError: no such data set or split.
    """
    source = retrieval.source or default_source
    return {f"{Path(source).name}_{split}": open_source(source, split) for split in retrieval.splits}


@dataclasses.dataclass
class Evaluation:
    """The evaluators of a run and the model's functions they call."""

    evaluators: list[RetrievalEvaluator]
    encoders: Encoders

    @classmethod
    def build(cls, config, splits, tokenizer, graphdef, mesh):
        """Builds an evaluator for each split; `graphdef` is the model's."""
        encoders = make_encoders(graphdef, mean=tuple(config.data.mean), std=tuple(config.data.std))
        fields = dict(
            image_size=config.model.image_size, text_length=config.model.text_length, mesh=mesh,
            batch_size=config.evals.retrieval.batch_size, rerank_top_k=config.evals.retrieval.rerank_top_k,
        )  # fmt: skip
        evaluators = [RetrievalEvaluator(source, tokenizer, name=name, **fields) for name, source in splits.items()]
        return cls(evaluators, encoders)

    def run(self, params: Any, step: int, page: Path | None = None) -> dict[str, float]:
        """Evaluates every split.

        Args:
          params: parameters of the model.
          step: updates that made them.
          page: file for a picture of example queries on the last split; None: no picture.

        Returns:
          `eval/<split>/<metric>` -> value.
        """
        metrics = {}
        for evaluator in self.evaluators:
            if page is not None and evaluator is self.evaluators[-1]:
                scores, examples = evaluator.evaluate_with_examples(self.encoders, params, step)
                if jax.process_index() == 0:
                    retrieval_page(*examples, page, title=evaluator.name)
            else:
                scores = evaluator.evaluate(self.encoders, params, step)
            metrics |= {f"eval/{evaluator.name}/{name}": value for name, value in scores.items()}
        return metrics
