"""Stage 2: masked language modelling on texts."""

from pathlib import Path

from vlmo_jax.models.flops import text_pretrain_flops
from vlmo_jax.recipes.tasks.settings import Settings, check_heads, check_init
from vlmo_jax.tasks.abilities import EncodesText
from vlmo_jax.tasks.text_pretrain import TextPretrainTask


class TextPretrainRecipe(Settings):
    """Masked language modelling on text alone; see `protocols.TaskRecipe`."""

    needs = EncodesText
    reads = TextPretrainTask.reads

    def check_inputs(self) -> None:
        """See `protocols.TaskRecipe`."""
        check_init(self.config, "the image experts and the attention of stage 1")

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        check_heads(self.config, "task", ("mlm",))

    def make(self) -> TextPretrainTask:
        """See `protocols.TaskRecipe`."""
        return TextPretrainTask(dropout=self.dropout, **self.weights)

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        return text_pretrain_flops(self.config.model, self.config.data)

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            "stage 3 from here, --config=configs/stage3.py"
            f" --config.init_from={workdir} --workdir=DIR"
        )
