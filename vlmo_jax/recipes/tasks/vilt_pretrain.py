"""ViLT's pre-training on pairs."""

from collections.abc import Mapping
from pathlib import Path

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.fields import Kind
from vlmo_jax.input.text.masked_rows import check_text_sizes
from vlmo_jax.models.vilt_fields import pretrain_flops
from vlmo_jax.recipes.tasks.settings import WEIGHT, Settings, check_heads
from vlmo_jax.recipes.visual import seen_by
from vlmo_jax.tasks.protocols import AlignsWordsAndPatches
from vlmo_jax.tasks.vilt_pretrain import ViltPretrainTask


class ViltPretrainRecipe(Settings):
    """Masked words, matching with images replaced at random, and alignment of words with patches;
    see `protocols.TaskRecipe`.
    """

    allowed: Mapping[str, Kind] = {
        "itm_weight": WEIGHT,
        "mlm_weight": WEIGHT,
        "wpa_weight": WEIGHT,
    }
    needs = AlignsWordsAndPatches

    @property
    def reads(self) -> tuple[str, ...]:
        """See `protocols.TaskRecipe`."""
        return ViltPretrainTask(seen=seen_by(self.config).columns).reads

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        check_heads(self.config, "task", ("itm", "mlm"))
        check_text_sizes(self.config.model.text_length, self.config.data.max_masked_tokens)
        require(
            self.config.mode == "eval" or self.config.batch_size >= 2,
            f"config.batch_size={self.config.batch_size} leaves no other images; use at least 2",
        )

    def make(self) -> ViltPretrainTask:
        """See `protocols.TaskRecipe`."""
        data = self.config.data
        return ViltPretrainTask(
            mean=tuple(data.mean),
            std=tuple(data.std),
            dropout=self.dropout,
            seen=seen_by(self.config).columns,
            **self.weights,
        )

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        return pretrain_flops(self.config.model)

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            "search by scoring every pair: add --config.mode=eval"
            f" --config.evals.retrieval.splits=\"('SPLIT',)\" --workdir={workdir} to the command of"
            " this run."
        )
