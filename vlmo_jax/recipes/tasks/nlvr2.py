"""Fine-tuning on statements about two images."""

from pathlib import Path

from vlmo_jax.models.build import pass_flops
from vlmo_jax.recipes.tasks.settings import Settings, check_heads, check_init
from vlmo_jax.recipes.visual import seen_by
from vlmo_jax.tasks.nlvr2 import Nlvr2Task
from vlmo_jax.tasks.protocols import ComparesImages


class Nlvr2Recipe(Settings):
    """Whether a statement is true of two images; see `protocols.TaskRecipe`."""

    needs = ComparesImages

    @property
    def reads(self) -> tuple[str, ...]:
        """See `protocols.TaskRecipe`."""
        return self.make().reads

    def check_inputs(self) -> None:
        """See `protocols.TaskRecipe`."""
        check_init(self.config, "a model that was pre-trained on image-text pairs, stage 3")

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        check_heads(self.config, "task", ("nlvr2",))

    def make(self) -> Nlvr2Task:
        """See `protocols.TaskRecipe`."""
        data = self.config.data
        return Nlvr2Task(
            mean=tuple(data.mean),
            std=tuple(data.std),
            dropout=self.dropout,
            seen=seen_by(self.config).columns,
        )

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        return pass_flops(self.config.model).compare

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            "score another split: add --config.mode=eval"
            f" --config.evals.nlvr2.splits=\"('SPLIT',)\" --workdir={workdir} to the command of"
            " this run."
        )
