"""Fine-tuning on images with the class of each pixel."""

from collections.abc import Mapping
from pathlib import Path

from vlmo_jax.commands.fields import Choice, Kind
from vlmo_jax.models.segmenter import segmentation_flops
from vlmo_jax.recipes.tasks.settings import WEIGHT, Settings, check_init
from vlmo_jax.tasks.abilities import SegmentsImages
from vlmo_jax.tasks.segment import MEANS, SegmentTask


class SegmentRecipe(Settings):
    """Cross-entropy of pixels by two heads; see `protocols.TaskRecipe`."""

    allowed: Mapping[str, Kind] = {"auxiliary_weight": WEIGHT, "mean_over": Choice(MEANS)}
    needs = SegmentsImages

    @property
    def reads(self) -> tuple[str, ...]:
        """See `protocols.TaskRecipe`."""
        return self.make().reads

    @property
    def dropout(self) -> bool:
        """Whether drop-path or the dropout of the heads draws anything."""
        return super().dropout or self.config.model.get("head_dropout", 0) > 0

    def check_inputs(self) -> None:
        """See `protocols.TaskRecipe`."""
        check_init(self.config, "any VLMo or BEiT: the work folder of a stage, or a converted one")

    def make(self) -> SegmentTask:
        """See `protocols.TaskRecipe`."""
        data = self.config.data
        return SegmentTask(
            mean=tuple(data.mean), std=tuple(data.std), dropout=self.dropout, **self.weights
        )

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        return segmentation_flops(self.config.model, self.config.data)

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            "look at segmentation.png in it, or write it for others: python -m"
            f" vlmo_jax.interop.convert {workdir} OUT.safetensors --to=beit_segmenter"
        )
