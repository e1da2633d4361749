"""Dual encoders that learn by triplets."""

from collections.abc import Mapping
from pathlib import Path

from flax import nnx

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.fields import Choice, Flag, Kind, Number, Whole
from vlmo_jax.models.build import abstract_model, model_maker, pass_flops
from vlmo_jax.recipes.tasks.settings import Settings, check_heads
from vlmo_jax.recipes.visual import seen_by, sees_regions
from vlmo_jax.tasks.abilities import PoolsPairs
from vlmo_jax.tasks.vse_infinity import COLLAPSED, TripletTask

ON_COLLAPSE = ("warn", "stop")


class CollapsedError(UserError, RuntimeError):
    """All vectors of a run have become alike."""


class TripletRecipe(Settings):
    """The triplet loss of a batch; see `protocols.TaskRecipe`."""

    allowed: Mapping[str, Kind] = {
        "margin": Number(above=0, below=2),
        "warmup_steps": Whole(low=0, zero="none"),
        "mask_duplicates": Flag(),
        "dropped_patches": Number(low=0, below=1),
        "on_collapse": Choice(ON_COLLAPSE),
    }
    needs: type = PoolsPairs

    @property
    def reads(self) -> tuple[str, ...]:
        """See `protocols.TaskRecipe`."""
        return self.make().reads

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        config = self.config
        check_heads(config, "task", ("retrieval",))
        require(
            config.batch_size >= 2,
            f"config.batch_size={config.batch_size} leaves no negatives; use at least 2",
        )
        dropped = config.task.dropped_patches
        require(
            not (dropped and sees_regions(config)),
            f"config.task.dropped_patches={dropped} is of models that see images, and"
            f" config.model.num_regions={config.model.get('num_regions', 0)}; set it to 0 and"
            " config.data.dropped_regions instead",
        )
        require(
            config.accumulation == 1 or not config.model.get("region_mlp", 0),
            f"config.accumulation={config.accumulation} does not go with config.model.region_mlp="
            f"{config.model.get('region_mlp', 0)}, whose BatchNorm is over the whole batch; use"
            " config.accumulation=1 and more devices",
        )

    def make(self) -> TripletTask:
        """See `protocols.TaskRecipe`."""
        config, data, task = self.config, self.config.data, self.config.task
        return TripletTask(
            graphdef=self._graphdef(),
            seen=seen_by(config).columns,
            mean=tuple(data.get("mean", ())),
            std=tuple(data.get("std", ())),
            margin=task.margin,
            warmup_steps=task.warmup_steps,
            mask_duplicates=task.mask_duplicates,
            dropped_patches=task.dropped_patches,
            text_dropout=config.model.dropout_rate > 0,
        )

    def _graphdef(self) -> nnx.GraphDef:
        return abstract_model(model_maker(self.config.model))[0]

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        passes = pass_flops(self.config.model)
        return passes.image + passes.text

    def watch(self, metrics: Mapping[str, float]) -> str:
        """See `protocols.TaskRecipe`.

        Raises:
            CollapsedError: all vectors are alike, and `config.task.on_collapse` is "stop".
        """
        if metrics.get(COLLAPSED, 0.0) < 1:
            return ""
        found = (
            "collapsed: all similarities of a batch are alike (deviation"
            f" {metrics['similarity_deviation']:.1g}), and a pair's triplet loss is twice the"
            f" margin, {metrics['triplet_loss']:.3f}. It may find its way out; if it does not, use"
            " a longer config.task.warmup_steps, in which all negatives count, or a smaller"
            " config.optimizer.learning_rate"
        )
        if self.config.task.on_collapse == "stop":
            raise CollapsedError(f"the run is stopped, since it has {found}")
        return f"the run has {found}"

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            "add --config.mode=eval to the command of this run: results, a page of hits and misses"
            f" and predictions go to {workdir}."
        )
