"""The visual tokenizer of stage 1."""

from pathlib import Path

from vlmo_jax.commands.config_errors import not_negative, positive, require
from vlmo_jax.models.flops import visual_tokenizer_flops
from vlmo_jax.recipes.tasks.settings import Settings
from vlmo_jax.tasks.protocols import EncodesToCodes
from vlmo_jax.tasks.visual_tokenizer import VisualTokenizerTask


class VisualTokenizerRecipe(Settings):
    """Training of a discrete VAE; see `protocols.TaskRecipe`."""

    needs = EncodesToCodes
    reads = VisualTokenizerTask.reads

    def check(self) -> None:
        """See `protocols.TaskRecipe`."""
        task = self.config.task
        positive("task.temperature", task.temperature)
        for name in ("usage_weight", "certainty_weight"):
            not_negative(f"task.{name}", task[name], "off")
        require(
            self.config.accumulation == 1 or self.config.mode == "eval",
            f"config.accumulation={self.config.accumulation} is not allowed: how evenly codes are"
            " used is known of the whole batch alone; use 1 with a smaller config.batch_size, or"
            " more devices",
        )

    def make(self) -> VisualTokenizerTask:
        """See `protocols.TaskRecipe`."""
        return VisualTokenizerTask(**self.weights)

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        return visual_tokenizer_flops(self.config.model, self.config.data)

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        size = self.config.model.image_size
        return (
            f"stage 1, which predicts these codes: its visual tokenizer is {workdir}, and reads its"
            f" images at {size} px."
        )
