"""Image-text retrieval."""

from collections.abc import Mapping

import jax
from flax import nnx

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.fields import Choice, Kind, Whole
from vlmo_jax.evals.protocols import PROTOCOLS
from vlmo_jax.evals.retrieval import RetrievalEvaluator
from vlmo_jax.evals.retrieval_evaluation import RetrievalEvaluation
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.recipes.tasks.settings import check_heads
from vlmo_jax.tasks.protocols import DualEncoder, Matcher
from vlmo_jax.tasks.retrieval import Encoders, make_encoders


class RetrievalRecipe(SplitsRecipe):
    """Recall both ways of a dual encoder, re-ranked by a fusion encoder on wish; see
    `protocols.EvaluationRecipe`.
    """

    allowed: Mapping[str, Kind] = {
        **SplitsRecipe.allowed,
        "protocol": Choice(tuple(PROTOCOLS)),
        "rerank_top_k": Whole(low=0, zero="no re-ranking"),
    }

    @property
    def needs(self) -> type:
        """A model that matches, too, where it is to rank again."""
        return Matcher if self.fields.rerank_top_k > 0 else DualEncoder

    def check(self, batch_shards: int) -> None:
        """See `protocols.EvaluationRecipe`."""
        super().check(batch_shards)
        self.require_texts()
        missing = [name for name in ("mean", "std") if name not in self.config.data]
        require(
            not missing,
            f"config.evals.{self.name} scores images, of which"
            f" config.data.kind={self.config.data.kind!r} does not say {' and '.join(missing)}",
        )
        heads = self.config.model.get("heads", None) or ()
        contrast = "retrieval" if "retrieval" in heads else "itc"
        ranking = ("itm",) if self.fields.rerank_top_k else ()
        check_heads(self.config, f"evals.{self.name}", (contrast, *ranking))

    def encoders(self, graphdef: nnx.GraphDef) -> Encoders:
        """The model's functions."""
        data = self.config.data
        return make_encoders(graphdef, mean=tuple(data.mean), std=tuple(data.std))

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> RetrievalEvaluation:
        """See `protocols.EvaluationRecipe`."""
        model = self.config.model
        evaluators = [
            RetrievalEvaluator(
                source,
                self.tokenizer,
                name=name,
                image_size=model.image_size,
                text_length=model.text_length,
                batch_size=self.fields.batch_size,
                mesh=mesh,
                protocol=self.fields.protocol,
            )
            for name, source in self.splits.items()
        ]
        top_k = self.fields.rerank_top_k
        return RetrievalEvaluation(self.name, evaluators, self.encoders(graphdef), top_k)
