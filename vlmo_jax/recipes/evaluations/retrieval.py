"""Image-text retrieval."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.commands.config_errors import naming, require
from vlmo_jax.commands.fields import Choice, Extra, Kind, Number, Whole
from vlmo_jax.evals.pair_scoring import PairScoringEvaluator
from vlmo_jax.evals.protocols import PROTOCOLS, Captions, read_captions
from vlmo_jax.evals.retrieval import RetrievalEvaluator
from vlmo_jax.evals.retrieval_evaluation import RetrievalEvaluation
from vlmo_jax.evals.retrieval_search import RERANKINGS
from vlmo_jax.models.build import MODELS, pass_flops
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.recipes.protocols import Data, TaskRecipe
from vlmo_jax.recipes.tasks.settings import check_heads
from vlmo_jax.recipes.visual import seen_by
from vlmo_jax.tasks.abilities import DualEncoder, FusesPairs, Matcher
from vlmo_jax.tasks.retrieval import MATCH_SCORES, Encoders, make_encoders

# How pairs are scored: by vectors of images and texts, each by a pass of its own, or by what the
# model is made for.
SCORINGS = ("auto", "vectors", "pairs")

Scored = TypeVar("Scored")


class RetrievalRecipe(SplitsRecipe):
    """Recall both ways of a dual encoder, re-ranked by a fusion encoder on wish, or of a model that
    only fuses; see `protocols.EvaluationRecipe`.
    """

    allowed: Mapping[str, Kind] = {
        **SplitsRecipe.allowed,
        "protocol": Choice(tuple(PROTOCOLS)),
        "rerank_top_k": Whole(low=0, zero="no re-ranking"),
        "rerank": Extra(Choice(tuple(RERANKINGS))),
        "scoring": Extra(Choice(SCORINGS)),
        "match_score": Extra(Choice(tuple(MATCH_SCORES))),
        "match_weight": Extra(Number(above=0, high=1_000_000)),
    }

    def __init__(self, name: str, config: ConfigDict, data: Data, task: TaskRecipe) -> None:
        super().__init__(name, config, data, task)
        self._captions: dict[str, Captions] = {}

    @property
    def needs(self) -> type:
        """A model that matches, where pairs are scored; one that matches, too, where it is to rank
        again.
        """
        if self.scores_pairs:
            return FusesPairs
        return Matcher if self.fields.rerank_top_k > 0 else DualEncoder

    @property
    def scores_pairs(self) -> bool:
        """Whether every pair is scored: what is asked for, or else what the model is made for."""
        chosen = self.fields.get("scoring", "auto")
        module = MODELS[self.config.model.kind].module
        only_fuses = issubclass(module, FusesPairs) and not issubclass(module, DualEncoder)
        return chosen == "pairs" or chosen == "auto" and only_fuses

    def check(self, batch_shards: int) -> None:
        """See `protocols.EvaluationRecipe`."""
        super().check(batch_shards)
        self.require_texts()
        self.require_statistics()
        heads = self.config.model.get("heads", None) or ()
        if self.scores_pairs:
            require(
                not self.fields.rerank_top_k,
                f"config.evals.{self.name}.rerank_top_k={self.fields.rerank_top_k} ranks again what"
                " vectors have found, but every pair is scored here; use 0",
            )
            check_heads(self.config, f"evals.{self.name}", ("rank" if "rank" in heads else "itm",))
            return
        contrast = "retrieval" if "retrieval" in heads else "itc"
        ranking = ("itm",) if self.fields.rerank_top_k else ()
        check_heads(self.config, f"evals.{self.name}", (contrast, *ranking))

    def open(self) -> None:
        """See `protocols.EvaluationRecipe`."""
        self.open_splits(seen_by(self.config).open_split)
        with naming(self.config, f"evals.{self.name}.protocol"):
            for split, source in self.splits.items():
                self._captions[split] = self._read_captions(split, source)
        for split, captions in self._captions.items():
            self._check_candidates(split, captions)

    def _read_captions(self, split: str, source: Sequence) -> Captions:
        try:
            return read_captions(source, self.fields.protocol)
        except ValueError as error:
            raise ValueError(f"{split}: {error}") from error

    def _check_candidates(self, split: str, captions: Captions) -> None:
        """Refuses to re-rank more candidates than a search has."""
        top_k, folds = self.fields.rerank_top_k, PROTOCOLS[self.fields.protocol].folds
        most = min(len(captions.image_ids), len(captions.texts)) // folds
        require(
            top_k <= most,
            f"config.evals.{self.name}.rerank_top_k={top_k} is more than the {most:,} candidates of"
            f" a search in {split}; use at most {most}, or other config.evals.{self.name}.splits",
        )

    def facts(self, split: str) -> dict[str, Any]:
        """See `protocols.EvaluationRecipe`."""
        captions, top_k = self._captions[split], self.fields.rerank_top_k
        return {
            "protocol": f"{self.fields.protocol}: {PROTOCOLS[self.fields.protocol].description}",
            "images": len(captions.image_ids),
            "texts": len(captions.texts),
            "rerank": self._rerank if top_k else None,
            "rerank_top_k": top_k,
            **({"match_weight": self._match_weight} if top_k and self._rerank == "add" else {}),
            **({"scoring": "every pair by the fused model"} if self.scores_pairs else {}),
        }

    @property
    def _rerank(self) -> str:
        """Config files from before there was a choice replace."""
        return self.fields.get("rerank", "replace")

    @property
    def _match_weight(self) -> float:
        return self.fields.get("match_weight", 1.0)

    def encoders(self, graphdef: nnx.GraphDef) -> Encoders:
        """The model's functions."""
        data, usual = self.config.data, "logit" if self._rerank == "add" else "log_odds"
        return make_encoders(
            graphdef,
            mean=tuple(data.get("mean", ())),
            std=tuple(data.get("std", ())),
            match_score=self.fields.get("match_score", usual),
        )

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> RetrievalEvaluation:
        """See `protocols.EvaluationRecipe`."""
        make_one: Callable[..., RetrievalEvaluator] = RetrievalEvaluator
        if self.scores_pairs:
            cost = pass_flops(self.config.model).match
            make_one = functools.partial(PairScoringEvaluator, flops_of_pair=cost)
        evaluators = self.evaluators(make_one, mesh)
        top_k = self.fields.rerank_top_k
        return RetrievalEvaluation(self.name, evaluators, self.encoders(graphdef), top_k)

    def evaluators(self, make_one: Callable[..., Scored], mesh: jax.sharding.Mesh) -> list[Scored]:
        """One a split.

        Args:
            make_one: a RetrievalEvaluator, or what takes the same arguments.
            mesh: of the job.
        """
        model, maker = self.config.model, seen_by(self.config).maker
        return [
            make_one(
                source,
                self.tokenizer,
                name=name,
                images=maker,
                text_length=model.text_length,
                batch_size=self.fields.batch_size,
                mesh=mesh,
                protocol=self.fields.protocol,
                rerank=self._rerank,
                match_weight=self._match_weight,
                captions=self._captions[name],
            )
            for name, source in self.splits.items()
        ]
