"""Stage 3: vision-language pre-training on pairs."""

from collections.abc import Mapping
from pathlib import Path

from vlmo_jax.commands.config_errors import multiple, require
from vlmo_jax.commands.fields import Extra, Flag, Kind, Number, Whole
from vlmo_jax.input.text.masked_rows import check_text_sizes
from vlmo_jax.models.flops import one_branch_pretrain_flops, pair_pretrain_flops
from vlmo_jax.recipes.tasks.settings import (
    CHUNK,
    WEIGHT,
    Settings,
    check_contrast_chunk,
    check_heads,
)
from vlmo_jax.tasks.abilities import PretrainsByOneBranch, PretrainsOnPairs
from vlmo_jax.tasks.pair_pretrain import OneBranchPretrainTask, PairPretrainTask


class PairPretrainRecipe(Settings):
    """Contrast, matching and masked language modelling; see `protocols.TaskRecipe`."""

    allowed: Mapping[str, Kind] = {
        "itc_weight": WEIGHT,
        "itm_weight": WEIGHT,
        "mlm_weight": WEIGHT,
        "mask_duplicates": Flag(),
        "num_fused": Extra(Whole(low=0, zero="all")),
        "easier_negatives": Extra(Number(low=0, high=1)),
        "negative_groups": Extra(Whole(low=0, zero="the whole batch")),
        "contrast_chunk": CHUNK,
    }
    needs: type = PretrainsOnPairs
    heads: tuple[str, ...] = ("itc", "itm", "mlm")
    made: type[PairPretrainTask] = PairPretrainTask
    flops = staticmethod(pair_pretrain_flops)

    @property
    def reads(self) -> tuple[str, ...]:
        """See `protocols.TaskRecipe`."""
        return PairPretrainTask(mask_duplicates=self.config.task.mask_duplicates).reads

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        model, data = self.config.model, self.config.data
        check_heads(self.config, "task", self.heads)
        check_text_sizes(model.text_length, data.max_masked_tokens)
        if self.config.mode == "train":
            require(
                self.config.batch_size >= 2,
                f"config.batch_size={self.config.batch_size} leaves no negatives; use at least 2",
            )
            self._check_num_fused(batch_shards)
            self._check_negative_groups(batch_shards)
            check_contrast_chunk(self.config, batch_shards)

    def _check_num_fused(self, batch_shards: int) -> None:
        """Refuses pairs for the fused passes that do not lie evenly in the batch."""
        size, chosen = self.config.batch_size, self.config.task.get("num_fused", 0)
        require(
            not chosen or size % chosen == 0,
            f"config.task.num_fused={chosen} does not divide config.batch_size={size}; use a"
            " divisor of it, or 0 for all pairs",
        )
        parts = batch_shards * self.config.accumulation
        multiple("task.num_fused", chosen, parts, "batch shards x config.accumulation")

    def _check_negative_groups(self, batch_shards: int) -> None:
        """Refuses groups that leave no negatives, or parts of shards beside whole ones."""
        size, groups = self.config.batch_size, self.config.task.get("negative_groups", 0)
        require(
            not groups or (size % groups == 0 and size >= 2 * groups),
            f"config.task.negative_groups={groups} does not cut config.batch_size={size} into equal"
            " parts of 2 and more; use a divisor of half of it, or 0 for the whole batch",
        )
        require(
            not groups or groups % batch_shards == 0 or batch_shards % groups == 0,
            f"config.task.negative_groups={groups} is neither a divisor nor a multiple of the batch"
            f" shards, mesh data x fsdp ({batch_shards}); use {batch_shards}, so that no image"
            " leaves its shard, or 0 for the whole batch",
        )

    def make(self) -> PairPretrainTask:
        """See `protocols.TaskRecipe`."""
        data = self.config.data
        return self.made(
            mean=tuple(data.mean), std=tuple(data.std), dropout=self.dropout, **self.weights
        )

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        share = (self.config.task.get("num_fused", 0) or self.config.batch_size) / (
            self.config.batch_size
        )
        return self.flops(self.config.model, self.config.data, share)

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            "evaluate on your own pictures, python -m vlmo_jax.datasets.build IMAGES DIR"
            " --captions FILE, then add\n  --config.mode=eval --config.evals.retrieval.source=DIR"
            f" --workdir={workdir} to the command of this run."
        )


class OneBranchPretrainRecipe(PairPretrainRecipe):
    """The same with one contrastive branch; see `protocols.TaskRecipe`."""

    needs = PretrainsByOneBranch
    heads = ("retrieval", "itm", "mlm")
    made = OneBranchPretrainTask
    flops = staticmethod(one_branch_pretrain_flops)
