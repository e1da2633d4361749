"""Masked language modelling on held-out texts."""

import jax
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.datasets import open_text_source
from vlmo_jax.evals.masked_text import (
    MaskedTextEvaluation,
    MaskedTextEvaluator,
    blanks_of_largest,
)
from vlmo_jax.recipes.data.texts import TextsData
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.recipes.protocols import Data, TaskRecipe
from vlmo_jax.tasks.protocols import EncodesText
from vlmo_jax.tasks.text_pretrain import make_masked_text_model


class MaskedTextRecipe(SplitsRecipe):
    """Loss and accuracy at masked words, the same every time; see `protocols.EvaluationRecipe`."""

    page_at_start = True
    needs = EncodesText

    def __init__(self, name: str, config: ConfigDict, data: Data, task: TaskRecipe) -> None:
        super().__init__(name, config, data, task)
        self._texts = self.require_part("data", data, TextsData)

    def open(self) -> None:
        """See `protocols.EvaluationRecipe`."""
        self.open_splits(open_text_source)

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> MaskedTextEvaluation:
        """See `protocols.EvaluationRecipe`."""
        data, tokenizer = self.config.data, self.tokenizer
        evaluators = [
            MaskedTextEvaluator(
                source,
                tokenizer,
                self._texts.rows,
                name=name,
                mask_rate=data.mask_rate,
                packing=data.packing,
                batch_size=self.fields.batch_size,
                mesh=mesh,
            )
            for name, source in self.splits.items()
        ]
        return MaskedTextEvaluation(
            self.name,
            evaluators,
            make_masked_text_model(graphdef),
            blanks_of_largest(self.splits, tokenizer, self.config.model.text_length),
            tokenizer,
            mesh,
        )
