"""The visual tokenizer of stage 1."""

from collections.abc import Mapping
from pathlib import Path

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.fields import Flag, Kind, Number
from vlmo_jax.models.flops import visual_tokenizer_flops
from vlmo_jax.recipes.tasks.settings import WEIGHT, Settings
from vlmo_jax.tasks.abilities import EncodesToCodes
from vlmo_jax.tasks.visual_tokenizer import VisualTokenizerTask


class VisualTokenizerRecipe(Settings):
    """Training of a discrete VAE; see `protocols.TaskRecipe`."""

    allowed: Mapping[str, Kind] = {
        "temperature": Number(above=0),
        "gumbel": Flag(),
        "usage_weight": WEIGHT,
        "certainty_weight": WEIGHT,
    }
    needs = EncodesToCodes
    reads = VisualTokenizerTask.reads

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
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
