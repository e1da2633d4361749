"""Pre-training of ALBEF."""

from collections.abc import Mapping
from pathlib import Path

from flax import nnx

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.fields import Extra, Flag, Kind, Number, Whole
from vlmo_jax.input.text.masked_rows import check_text_sizes
from vlmo_jax.models.albef_fields import pretrain_flops
from vlmo_jax.models.build import abstract_model, model_maker
from vlmo_jax.recipes.tasks.settings import WEIGHT, Settings, check_heads
from vlmo_jax.tasks.albef_pretrain import AlbefPretrainTask
from vlmo_jax.tasks.protocols import AlignsAndFuses

MOST_QUEUED = 2**24  # vectors


class AlbefPretrainRecipe(Settings):
    """Contrast with queues, matching, masked language modelling, and distillation; see
    `protocols.TaskRecipe`.
    """

    allowed: Mapping[str, Kind] = {
        "ita_weight": WEIGHT,
        "itm_weight": WEIGHT,
        "mlm_weight": WEIGHT,
        "momentum": Number(low=0, high=1),
        "queue_size": Whole(above=0, high=MOST_QUEUED),
        "alpha": Number(low=0, high=1, zero="no distillation"),
        "alpha_steps": Whole(low=0, zero="no ramp"),
        "random_negatives": Extra(Flag()),
    }
    needs = AlignsAndFuses
    reads = AlbefPretrainTask.reads

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        model, data = self.config.model, self.config.data
        check_heads(self.config, "task", ("itc", "itm", "mlm"))
        check_text_sizes(model.text_length, data.max_masked_tokens)
        if self.config.mode == "train":
            size, queue = self.config.batch_size, self.config.task.queue_size
            require(size >= 2, f"config.batch_size={size} leaves no negatives; use at least 2")
            below = queue // size * size
            require(
                queue % size == 0,
                f"config.task.queue_size={queue} is no multiple of config.batch_size={size}, which"
                f" goes into the queue as a whole; use {below or size} or {below + size}",
            )

    def make(self) -> AlbefPretrainTask:
        """See `protocols.TaskRecipe`."""
        data = self.config.data
        return AlbefPretrainTask(
            self._graphdef(),
            seed=self.config.seed,
            mean=tuple(data.mean),
            std=tuple(data.std),
            dropout=self.dropout,
            **self.weights,
        )

    def _graphdef(self) -> nnx.GraphDef:
        return abstract_model(model_maker(self.config.model))[0]

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`; of the momentum towers a third, since no backward pass
        follows theirs.
        """
        return pretrain_flops(self.config.model)

    def describe(self) -> str:
        """See `protocols.TaskRecipe`."""
        return f"a queue of {self.config.task.queue_size:,}"

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            "evaluate on your own pictures, python -m vlmo_jax.datasets.build IMAGES DIR"
            " --captions FILE, then add\n  --config.mode=eval --config.evals.retrieval.source=DIR"
            f" --workdir={workdir} to the command of this run."
        )
