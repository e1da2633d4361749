"""Fine-tuning on images with a class."""

from collections.abc import Mapping
from pathlib import Path

from vlmo_jax.commands.fields import Kind, Number
from vlmo_jax.models.flops import classification_flops
from vlmo_jax.recipes.tasks.settings import Settings, check_init
from vlmo_jax.tasks.abilities import ClassifiesImages
from vlmo_jax.tasks.classify import ClassifyTask


class ClassifyRecipe(Settings):
    """Cross-entropy with smoothed and mixed labels; see `protocols.TaskRecipe`."""

    allowed: Mapping[str, Kind] = {"smoothing": Number(low=0, below=1, zero="none")}
    needs = ClassifiesImages

    @property
    def reads(self) -> tuple[str, ...]:
        """See `protocols.TaskRecipe`."""
        return self.make().reads

    def check_inputs(self) -> None:
        """See `protocols.TaskRecipe`."""
        check_init(self.config, "any VLMo or BEiT: the work folder of a stage, or a converted one")

    def make(self) -> ClassifyTask:
        """See `protocols.TaskRecipe`."""
        data = self.config.data
        return ClassifyTask(
            num_classes=self.config.model.num_classes,
            mixed=data.mixup > 0 or data.cutmix > 0,
            mean=tuple(data.mean),
            std=tuple(data.std),
            dropout=self.dropout,
            **self.weights,
        )

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        return classification_flops(self.config.model, self.config.data)

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            f"ask it for the classes of pictures: vlmo_jax.load({str(workdir)!r}).classify(...);"
            " or write it for others: python -m vlmo_jax.interop.convert"
            f" {workdir} OUT.safetensors --to=beit_classifier"
        )
