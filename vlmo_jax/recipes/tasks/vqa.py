"""Fine-tuning on questions about images."""

from pathlib import Path

from vlmo_jax.models.build import pass_flops
from vlmo_jax.recipes.tasks.settings import Settings, check_heads, check_init
from vlmo_jax.recipes.visual import seen_by
from vlmo_jax.tasks.protocols import AnswersQuestions
from vlmo_jax.tasks.vqa import VqaTask


class VqaRecipe(Settings):
    """Scores of answers, each on its own; see `protocols.TaskRecipe`."""

    needs = AnswersQuestions

    @property
    def reads(self) -> tuple[str, ...]:
        """See `protocols.TaskRecipe`."""
        return self.make().reads

    def check_inputs(self) -> None:
        """See `protocols.TaskRecipe`."""
        check_init(self.config, "a model that was pre-trained on image-text pairs, stage 3")

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        check_heads(self.config, "task", ("vqa",))

    def make(self) -> VqaTask:
        """See `protocols.TaskRecipe`."""
        data = self.config.data
        return VqaTask(
            mean=tuple(data.mean),
            std=tuple(data.std),
            dropout=self.dropout,
            seen=seen_by(self.config).columns,
        )

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        return pass_flops(self.config.model).answer

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            "answer the questions of another split: add --config.mode=eval"
            f" --config.evals.vqa.splits=\"('SPLIT',)\" --workdir={workdir} to the command of"
            " this run; the file for a server is written beside the predictions."
        )
