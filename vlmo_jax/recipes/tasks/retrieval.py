"""Fine-tuning for retrieval, with and without matching."""

from collections.abc import Mapping
from pathlib import Path

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.fields import Flag, Kind
from vlmo_jax.models.build import pass_flops
from vlmo_jax.recipes.tasks.settings import (
    CHUNK,
    WEIGHT,
    Settings,
    check_contrast_chunk,
    check_heads,
    check_init,
)
from vlmo_jax.tasks.abilities import LearnsToMatch, LearnsToRetrieve
from vlmo_jax.tasks.retrieval_finetune import RetrievalMatchingTask, RetrievalTask


class RetrievalTaskRecipe(Settings):
    """The contrast of a dual encoder; see `protocols.TaskRecipe`."""

    allowed: Mapping[str, Kind] = {"mask_duplicates": Flag(), "contrast_chunk": CHUNK}
    needs: type = LearnsToRetrieve
    heads: tuple[str, ...] = ("retrieval",)
    task: type[RetrievalTask] = RetrievalTask

    @property
    def reads(self) -> tuple[str, ...]:
        """See `protocols.TaskRecipe`."""
        return self.task(mask_duplicates=self.config.task.mask_duplicates).reads

    def check_inputs(self) -> None:
        """See `protocols.TaskRecipe`."""
        check_init(self.config, "stage 3, or a model that was tuned on another set")

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        check_heads(self.config, "task", self.heads)
        require(
            self.config.mode == "eval" or self.config.batch_size >= 2,
            f"config.batch_size={self.config.batch_size} leaves no negatives; use at least 2",
        )
        if self.config.mode == "train":
            check_contrast_chunk(self.config, batch_shards)

    def make(self) -> RetrievalTask:
        """See `protocols.TaskRecipe`."""
        data = self.config.data
        return self.task(
            mean=tuple(data.mean), std=tuple(data.std), dropout=self.dropout, **self.weights
        )

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        passes = pass_flops(self.config.model)
        return passes.image + passes.text

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            "add --config.mode=eval to the command of this run: results, a page of hits and misses"
            f" and predictions go to {workdir}."
        )


class RetrievalMatchingRecipe(RetrievalTaskRecipe):
    """The same with matching, so that the model can re-rank; see `protocols.TaskRecipe`."""

    allowed: Mapping[str, Kind] = {**RetrievalTaskRecipe.allowed, "itm_weight": WEIGHT}
    needs = LearnsToMatch
    heads = ("retrieval", "itm")
    task = RetrievalMatchingTask

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        # The pair and its hard negatives take three passes through the fusion encoder.
        return super().forward_flops() + 3 * pass_flops(self.config.model).match
