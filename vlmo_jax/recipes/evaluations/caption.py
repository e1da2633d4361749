"""Captions of images."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.fields import Flag, Kind, Number, Whole
from vlmo_jax.datasets import open_image_source
from vlmo_jax.evals.answered_evaluation import AnsweredEvaluation
from vlmo_jax.evals.caption import CaptionEvaluator, GreyImages, scored_by
from vlmo_jax.input.plain_images import EvalImages
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.recipes.protocols import Data, TaskRecipe
from vlmo_jax.recipes.tasks.caption import CaptionRecipe
from vlmo_jax.recipes.tasks.settings import check_heads
from vlmo_jax.recipes.visual import image_form_of
from vlmo_jax.tasks.abilities import WritesCaptions
from vlmo_jax.tasks.beam_search import special_tokens
from vlmo_jax.tasks.caption import make_captioner

MOST_BEAMS = 64


class CaptionEvaluationRecipe(SplitsRecipe):
    """What a model writes beside what people do; see `protocols.EvaluationRecipe`."""

    allowed: Mapping[str, Kind] = {
        **SplitsRecipe.allowed,
        "beams": Whole(above=0, high=MOST_BEAMS),
        "max_length": Whole(low=3),
        "length_penalty": Number(low=0, high=100),
        "image_blind": Flag(),
    }
    needs = WritesCaptions

    def __init__(self, name: str, config: ConfigDict, data: Data, task: TaskRecipe) -> None:
        super().__init__(name, config, data, task)
        self.require_part("task", task, CaptionRecipe)

    def check(self, batch_shards: int) -> None:
        """See `protocols.EvaluationRecipe`."""
        super().check(batch_shards)
        self.require_texts()
        self.require_statistics()
        check_heads(self.config, f"evals.{self.name}", ("caption",))
        model, length = self.config.model, self.fields.max_length
        field = "text_positions" if model.position == "relative" else "text_length"
        most = model[field]
        require(
            length <= most,
            f"config.evals.{self.name}.max_length={length} is more than"
            f" config.model.{field}={most}, for which the model has positions; use at most {most}",
        )
        beams, words = self.fields.beams, model.vocab_size
        require(
            beams < words,
            f"config.evals.{self.name}.beams={beams} must be below config.model.vocab_size={words}",
        )

    def open(self) -> None:
        """See `protocols.EvaluationRecipe`; images need no captions to be given some."""
        self.open_splits(open_image_source)

    def facts(self, split: str) -> dict[str, Any]:
        """See `protocols.EvaluationRecipe`."""
        fields = self.fields
        return {
            "protocol": f"captions by {fields.beams} beams of up to {fields.max_length} tokens,"
            f" length penalty {fields.length_penalty:g}"
            + ("; of grey images" if fields.image_blind else ""),
            "images": len(self.splits[split]),
            "scored_by": scored_by(),
        }

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> AnsweredEvaluation:
        """See `protocols.EvaluationRecipe`."""
        data, fields = self.config.data, self.fields
        rows = image_form_of(self.config)
        maker = GreyImages if fields.image_blind else EvalImages
        evaluators = [
            CaptionEvaluator(
                source,
                self.tokenizer,
                maker(source, rows),
                name=name,
                batch_size=fields.batch_size,
                mesh=mesh,
                loading=self.loading(),
            )
            for name, source in self.splits.items()
        ]
        write = make_captioner(
            graphdef,
            mean=tuple(data.mean),
            std=tuple(data.std),
            tokens=special_tokens(self.tokenizer),
            training=self.config.task.training,
            beams=fields.beams,
            length=fields.max_length,
            length_penalty=fields.length_penalty,
        )
        return AnsweredEvaluation(self.name, evaluators, write)
