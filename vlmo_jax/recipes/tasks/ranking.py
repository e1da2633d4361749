"""Fine-tuning of a fusion encoder for retrieval."""

from collections.abc import Mapping
from pathlib import Path

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.fields import Kind, Whole
from vlmo_jax.models.build import pass_flops
from vlmo_jax.recipes.tasks.settings import Settings, check_heads, check_init
from vlmo_jax.recipes.visual import seen_by
from vlmo_jax.tasks.protocols import LearnsToRank
from vlmo_jax.tasks.ranking import RankingTask


class RankingRecipe(Settings):
    """Which of some texts is an image's own; see `protocols.TaskRecipe`."""

    allowed: Mapping[str, Kind] = {"num_false": Whole(above=0)}
    needs = LearnsToRank

    @property
    def reads(self) -> tuple[str, ...]:
        """See `protocols.TaskRecipe`."""
        return self.make().reads

    def check_inputs(self) -> None:
        """See `protocols.TaskRecipe`."""
        check_init(self.config, "a model that was pre-trained with matching")

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        check_heads(self.config, "task", ("rank",))
        size, count = self.config.batch_size, self.config.task.num_false
        require(
            self.config.mode == "eval" or count < size,
            f"config.task.num_false={count} other texts of an image come from its batch, and"
            f" config.batch_size={size} has {size - 1} others; use a larger batch or fewer texts",
        )

    def make(self) -> RankingTask:
        """See `protocols.TaskRecipe`."""
        data = self.config.data
        return RankingTask(
            mean=tuple(data.mean),
            std=tuple(data.std),
            dropout=self.dropout,
            seen=seen_by(self.config).columns,
            **self.weights,
        )

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        return (1 + self.config.task.num_false) * pass_flops(self.config.model).match

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            "add --config.mode=eval to the command of this run: results, a page of hits and misses"
            f" and predictions go to {workdir}."
        )
