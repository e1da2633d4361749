"""Pre-training of ViLBERT."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmo_jax.commands.config_errors import multiple, naming, require
from vlmo_jax.commands.fields import Flag, Kind, Number
from vlmo_jax.input.text.masked_rows import check_text_sizes
from vlmo_jax.models.vilbert_fields import pretrain_flops
from vlmo_jax.recipes.data.opening import SYNTHETIC
from vlmo_jax.recipes.tasks.saved_visual_tokenizer import SyntheticVisualTokenizer, VisualTokenizer
from vlmo_jax.recipes.tasks.settings import WEIGHT, Settings, check_heads
from vlmo_jax.tasks.abilities import PretrainsOnRegions
from vlmo_jax.tasks.vilbert_pretrain import VilbertPretrainTask

SYNTHETIC_STRIDE = 8  # of a made-up tokenizer, as of DALL-E's


class VilbertPretrainRecipe(Settings):
    """Alignment, masked words and masked regions; see `protocols.TaskRecipe`.

    Where patches stand in for regions, their classes are the codes of `config.visual_tokenizer`.
    """

    allowed: Mapping[str, Kind] = {
        "itm_weight": WEIGHT,
        "mlm_weight": WEIGHT,
        "region_weight": WEIGHT,
        "region_rate": Number(above=0, below=1),
        "aligned_only": Flag(),
        "mask_duplicates": Flag(),
    }
    needs = PretrainsOnRegions

    @property
    def reads(self) -> tuple[str, ...]:
        """See `protocols.TaskRecipe`."""
        return self._task().reads

    @property
    def _needs_codes(self) -> bool:
        return bool(self.config.model.patch_size and self.config.model.region_classes)

    def check_inputs(self) -> None:
        """See `protocols.TaskRecipe`."""
        require(
            not self._needs_codes or bool(self.config.visual_tokenizer),
            "config.visual_tokenizer is not set, whose codes are the classes of patches; give"
            " --config.visual_tokenizer=DIR, the work folder of a run of"
            " configs/visual_tokenizer.py, or --config.model.region_classes=0 to predict pixels",
        )

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        model, data = self.config.model, self.config.data
        check_heads(self.config, "task", ("itm", "mlm", "region"))
        check_text_sizes(model.text_length, data.max_masked_tokens)
        require(
            self.config.mode == "eval" or self.config.batch_size >= 2,
            f"config.batch_size={self.config.batch_size} has no other caption; use at least 2",
        )

    def open(self) -> None:
        """See `protocols.TaskRecipe`."""
        if not self._needs_codes:
            return
        tokenizer, config = self.visual_tokenizer, self.config
        require(
            tokenizer.vocab_size == config.model.region_classes,
            f"config.visual_tokenizer={config.visual_tokenizer} has {tokenizer.vocab_size} codes,"
            f" not config.model.region_classes={config.model.region_classes}; set"
            f" --config.model.region_classes={tokenizer.vocab_size}",
        )
        multiple(
            "model.patch_size",
            config.model.patch_size,
            tokenizer.stride,
            f"the pixels a side of a code of config.visual_tokenizer={config.visual_tokenizer}",
        )

    @functools.cached_property
    def visual_tokenizer(self) -> VisualTokenizer:
        """The visual tokenizer, whose sizes are read at first use."""
        config = self.config
        if config.visual_tokenizer == SYNTHETIC:
            return SyntheticVisualTokenizer(config.model.region_classes, SYNTHETIC_STRIDE)
        with naming(config, "visual_tokenizer"):
            return VisualTokenizer(config.visual_tokenizer)

    def _task(self, **parts: Any) -> VilbertPretrainTask:
        model, data = self.config.model, self.config.data
        return VilbertPretrainTask(
            patch_size=model.patch_size,
            classes=model.region_classes > 0,
            mean=tuple(data.get("mean", ())),
            std=tuple(data.get("std", ())),
            dropout=self.dropout,
            **self.weights,
            **parts,
        )

    def make(self) -> VilbertPretrainTask:
        """See `protocols.TaskRecipe`."""
        if not self._needs_codes:
            return self._task()
        return self._task(visual_tokenizer=self.visual_tokenizer.abstract()[0])

    def load_frozen(self) -> Any:
        """See `protocols.TaskRecipe`."""
        if not self._needs_codes:
            return super().load_frozen()
        with naming(self.config, "visual_tokenizer"):
            return self.visual_tokenizer.load()

    def frozen_meta(self) -> dict[str, Any]:
        """See `protocols.TaskRecipe`."""
        if not self._needs_codes:
            return super().frozen_meta()
        return {"visual_tokenizer": self.visual_tokenizer.identity()}

    def abstract_frozen(self) -> Any:
        """See `protocols.TaskRecipe`."""
        return self.visual_tokenizer.abstract()[1] if self._needs_codes else {}

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        return pretrain_flops(self.config.model)

    def describe(self) -> str:
        """See `protocols.TaskRecipe`."""
        if not self._needs_codes:
            return ""
        return f"{self.visual_tokenizer.vocab_size:,} codes of {self.config.visual_tokenizer}"

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return f"the checkpoints in {workdir} match pairs; see docs/VILBERT.md for what they score."
