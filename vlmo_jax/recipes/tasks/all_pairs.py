"""Contrast and matching over all pairs of a batch."""

from collections.abc import Mapping
from pathlib import Path

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.fields import Flag, Kind
from vlmo_jax.models.flops import all_pairs_flops
from vlmo_jax.recipes.tasks.settings import WEIGHT, Settings, check_heads
from vlmo_jax.tasks.abilities import MatchesAllPairs
from vlmo_jax.tasks.all_pairs import AllPairsTask


class AllPairsRecipe(Settings):
    """A dual encoder and the matching that ranks again; see `protocols.TaskRecipe`."""

    allowed: Mapping[str, Kind] = {
        "itc_weight": WEIGHT,
        "match_weight": WEIGHT,
        "mask_duplicates": Flag(),
    }
    needs = MatchesAllPairs

    @property
    def reads(self) -> tuple[str, ...]:
        """See `protocols.TaskRecipe`."""
        return AllPairsTask(mask_duplicates=self.config.task.mask_duplicates).reads

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        check_heads(self.config, "task", ("retrieval", "itm"))
        if self.config.mode != "train":
            return
        size, parts = self.config.batch_size, self.config.accumulation
        require(size >= 2, f"config.batch_size={size} leaves no negatives; use at least 2")
        require(
            parts == 1,
            f"config.accumulation={parts}: all pairs of a batch are compared at once; use 1, and a"
            " smaller config.batch_size or more devices where memory is short",
        )

    def make(self) -> AllPairsTask:
        """See `protocols.TaskRecipe`."""
        data = self.config.data
        return AllPairsTask(
            mean=tuple(data.mean), std=tuple(data.std), dropout=self.dropout, **self.weights
        )

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        return all_pairs_flops(self.config.model, self.config.batch_size)

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            "search your own pictures with it, python -m vlmo_jax.search index PICTURES INDEX"
            f" --model={workdir}; --rerank=16 at a query ranks the best by matching."
        )
