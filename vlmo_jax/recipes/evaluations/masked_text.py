"""Masked language modelling on held-out texts."""

import jax
from flax import nnx

from vlmo_jax.commands.config_errors import require
from vlmo_jax.datasets import open_text_source
from vlmo_jax.evals.masked_text import MaskedTextEvaluation, MaskedTextEvaluator, blanks_of_largest
from vlmo_jax.input.text.masked_rows import TextRows
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.recipes.tasks.settings import check_heads
from vlmo_jax.tasks.abilities import EncodesText
from vlmo_jax.tasks.text_pretrain import make_masked_text_model


class MaskedTextRecipe(SplitsRecipe):
    """Loss and accuracy at masked words, the same every time; see `protocols.EvaluationRecipe`."""

    page_at_start = True
    needs = EncodesText

    def check(self, batch_shards: int) -> None:
        """See `protocols.EvaluationRecipe`."""
        super().check(batch_shards)
        self.require_texts()
        check_heads(self.config, f"evals.{self.name}", ("mlm",))
        missing = [
            name for name in ("mask_rate", "max_masked_tokens") if name not in self.config.data
        ]
        require(
            not missing,
            f"config.evals.{self.name} masks words, for which"
            f" config.data.kind={self.config.data.kind!r} has no {' and no '.join(missing)}",
        )

    def open(self) -> None:
        """See `protocols.EvaluationRecipe`."""
        self.open_splits(open_text_source)

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> MaskedTextEvaluation:
        """See `protocols.EvaluationRecipe`."""
        data, tokenizer = self.config.data, self.tokenizer
        rows = TextRows(self.config.model.text_length, data.max_masked_tokens)
        evaluators = [
            MaskedTextEvaluator(
                source,
                tokenizer,
                rows,
                name=name,
                mask_rate=data.mask_rate,
                packing=data.get("packing", True),
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
