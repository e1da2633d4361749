"""Statements about two images."""

from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.evals.answered_evaluation import AnsweredEvaluation
from vlmo_jax.evals.nlvr2 import Nlvr2Evaluator, read_subsets
from vlmo_jax.recipes.data.statements import StatementsData, open_statements
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.recipes.protocols import Data, TaskRecipe
from vlmo_jax.recipes.tasks.settings import check_heads
from vlmo_jax.tasks.abilities import ComparesImages
from vlmo_jax.tasks.nlvr2 import make_comparer


class Nlvr2EvaluationRecipe(SplitsRecipe):
    """Accuracy and consistency of what a model holds for true; see `protocols.EvaluationRecipe`."""

    needs = ComparesImages

    def __init__(self, name: str, config: ConfigDict, data: Data, task: TaskRecipe) -> None:
        super().__init__(name, config, data, task)
        self._statements = self.require_part("data", data, StatementsData)

    def check(self, batch_shards: int) -> None:
        """See `protocols.EvaluationRecipe`."""
        super().check(batch_shards)
        self.require_texts()
        check_heads(self.config, f"evals.{self.name}", ("nlvr2",))

    def open(self) -> None:
        """See `protocols.EvaluationRecipe`."""
        self.open_splits(open_statements)

    def facts(self, split: str) -> dict[str, Any]:
        """See `protocols.EvaluationRecipe`."""
        protocol = "accuracy of statements, consistency of groups of them"
        return {"protocol": protocol, "statements": len(self.splits[split])}

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> AnsweredEvaluation:
        """See `protocols.EvaluationRecipe`."""
        data = self.config.data
        evaluators = [
            Nlvr2Evaluator(
                source,
                self.tokenizer,
                self._statements.rows,
                name=name,
                batch_size=self.fields.batch_size,
                mesh=mesh,
                loading=self.loading(),
                subsets=read_subsets(source.directory),  # type: ignore[attr-defined]
            )
            for name, source in self.splits.items()
        ]
        compare = make_comparer(graphdef, mean=tuple(data.mean), std=tuple(data.std))
        return AnsweredEvaluation(self.name, evaluators, compare)
