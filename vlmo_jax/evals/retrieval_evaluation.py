"""The retrieval evaluation of a run: an evaluator a split, and a page of example queries."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from vlmo_jax.evals.evaluation import largest, metric_names
from vlmo_jax.evals.predictions import write_predictions
from vlmo_jax.evals.retrieval import RetrievalEvaluator
from vlmo_jax.evals.retrieval_predictions import retrieval_predictions
from vlmo_jax.evals.turned_queries import turned_queries
from vlmo_jax.reports.pages.reranking import reranking_page
from vlmo_jax.reports.pages.retrieval import retrieval_page
from vlmo_jax.tasks.retrieval import Encoders


@dataclasses.dataclass
class RetrievalEvaluation:
    """The evaluators of a run and the model's functions they call; see `evaluation.Evaluation`.

    Attributes:
        name: of the evaluation.
        evaluators: one a split.
        encoders: functions of the model.
        rerank_top_k: candidates of a query that the ITM head ranks again where a picture is drawn,
            which is at the end of a run; 0: none.
    """

    name: str
    evaluators: list[RetrievalEvaluator]
    encoders: Encoders
    rerank_top_k: int

    def run(
        self,
        params: Any,
        step: int,
        page: Path | None = None,
        predictions: Path | None = None,
    ) -> dict[str, float]:
        """Evaluates every split; with a picture re-ranked by the ITM head too."""
        metrics: dict[str, float] = {}
        shown = largest(self.evaluators)
        top_k = 0 if page is None else self.rerank_top_k
        for evaluator in self.evaluators:
            scores, search = evaluator.search(self.encoders, params, step, top_k)
            if page is not None and evaluator is shown and jax.process_index() == 0:
                examples = evaluator.examples(search)
                retrieval_page(**examples._asdict(), png=page, title=evaluator.name)
                if top_k and (turned := turned_queries(evaluator, search)):
                    beside = page.with_name(f"{page.stem}_reranked{page.suffix}")
                    reranking_page(**turned._asdict(), png=beside, title=evaluator.name)
            if predictions is not None:
                lines = retrieval_predictions(evaluator, search)
                write_predictions(predictions, self.name, evaluator.name, lines)
            metrics |= metric_names(self.name, evaluator.name, scores)
        return metrics
