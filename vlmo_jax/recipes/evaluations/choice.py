"""Which of two captions is an image's own."""

import functools
from typing import Any

import jax
from flax import nnx

from vlmo_jax.commands.config_errors import naming, require
from vlmo_jax.evals.choice import ChoiceEvaluation, ChoiceEvaluator
from vlmo_jax.recipes.evaluations.retrieval import RetrievalRecipe


class ChoiceRecipe(RetrievalRecipe):
    """How often a right caption is preferred to a wrong one, by vectors or by pairs; fields as of
    retrieval, without re-ranking. See `protocols.EvaluationRecipe`.
    """

    def check(self, batch_shards: int) -> None:
        """See `protocols.EvaluationRecipe`."""
        super().check(batch_shards)
        require(
            not self.fields.rerank_top_k,
            f"config.evals.{self.name}.rerank_top_k={self.fields.rerank_top_k}: of two captions"
            " none is ranked again; use 0",
        )

    def facts(self, split: str) -> dict[str, Any]:
        """See `protocols.EvaluationRecipe`."""
        how = "the fused model" if self.scores_pairs else "vectors"
        images = len(self.splits[split])
        return {
            "protocol": f"an image's first caption beside one of another image, by {how}",
            "images": images,
        }

    def make(  # type: ignore[override]  # another evaluation of the same splits
        self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh
    ) -> ChoiceEvaluation:
        """See `protocols.EvaluationRecipe`."""
        make_one = functools.partial(ChoiceEvaluator, by_pairs=self.scores_pairs)
        with naming(self.config, f"evals.{self.name}.splits"):
            evaluators = self.evaluators(make_one, mesh)
        return ChoiceEvaluation(self.name, evaluators, self.encoders(graphdef))
