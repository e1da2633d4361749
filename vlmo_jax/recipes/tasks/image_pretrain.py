"""Stage 1: masked image modelling."""

import functools
from pathlib import Path
from typing import Any

from vlmo_jax.commands.config_errors import multiple, naming, require
from vlmo_jax.models.flops import image_pretrain_flops
from vlmo_jax.recipes.data.opening import SYNTHETIC
from vlmo_jax.recipes.tasks.saved_visual_tokenizer import SyntheticVisualTokenizer, VisualTokenizer
from vlmo_jax.recipes.tasks.settings import Settings
from vlmo_jax.tasks.abilities import PredictsMaskedImages
from vlmo_jax.tasks.image_pretrain import ImagePretrainTask


class ImagePretrainRecipe(Settings):
    """Masked image modelling with the codes of `config.visual_tokenizer`; see
    `protocols.TaskRecipe`.
    """

    needs = PredictsMaskedImages
    reads = ImagePretrainTask.reads

    def check_inputs(self) -> None:
        """See `protocols.TaskRecipe`."""
        require(
            bool(self.config.visual_tokenizer),
            "config.visual_tokenizer is not set; give --config.visual_tokenizer=DIR, the work"
            " folder of a run of configs/visual_tokenizer.py or a converted DALL-E encoder",
        )

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        multiple(
            "data.tokenizer_image_size",
            self.config.data.tokenizer_image_size,
            self._grid,
            "the patches a side, config.model.image_size / patch_size",
        )

    def open(self) -> None:
        """See `protocols.TaskRecipe`."""
        tokenizer, config = self.visual_tokenizer, self.config
        require(
            tokenizer.vocab_size == config.model.vocab_size,
            f"config.visual_tokenizer={config.visual_tokenizer} has {tokenizer.vocab_size} codes,"
            f" not config.model.vocab_size={config.model.vocab_size}; set"
            f" --config.model.vocab_size={tokenizer.vocab_size}",
        )
        require(
            tokenizer.stride == self._pixels_of_a_code,
            f"config.visual_tokenizer={config.visual_tokenizer} has a code for every"
            f" {tokenizer.stride} x {tokenizer.stride} pixels, which of"
            f" config.data.tokenizer_image_size={config.data.tokenizer_image_size} makes another"
            f" grid than the {self._grid} x {self._grid} patches of the model; set"
            f" --config.data.tokenizer_image_size={self._grid * tokenizer.stride}",
        )

    @property
    def _grid(self) -> int:
        """Patches a side."""
        return self.config.model.image_size // self.config.model.patch_size

    @property
    def _pixels_of_a_code(self) -> int:
        """Side of what one code must stand for, in pixels of the tokenizer's view."""
        return self.config.data.tokenizer_image_size // self._grid

    @functools.cached_property
    def visual_tokenizer(self) -> VisualTokenizer:
        """The visual tokenizer, whose sizes are read at first use."""
        config = self.config
        if config.visual_tokenizer == SYNTHETIC:
            return SyntheticVisualTokenizer(config.model.vocab_size, self._pixels_of_a_code)
        with naming(config, "visual_tokenizer"):
            return VisualTokenizer(config.visual_tokenizer)

    def make(self, *, decoder: bool = False) -> ImagePretrainTask:
        """See `protocols.TaskRecipe`; with the tokenizer's decoder the task can draw, too."""
        data = self.config.data
        return ImagePretrainTask(
            self.visual_tokenizer.abstract(decoder=decoder)[0],
            mean=tuple(data.mean),
            std=tuple(data.std),
            dropout=self.dropout,
            **self.weights,
        )

    def load_frozen(self) -> Any:
        """See `protocols.TaskRecipe`."""
        with naming(self.config, "visual_tokenizer"):
            return self.visual_tokenizer.load()

    def frozen_meta(self) -> dict[str, Any]:
        """See `protocols.TaskRecipe`."""
        return {"visual_tokenizer": self.visual_tokenizer.identity()}

    def abstract_frozen(self) -> Any:
        """See `protocols.TaskRecipe`."""
        return self.visual_tokenizer.abstract()[1]

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        return image_pretrain_flops(self.config.model, self.config.data)

    def describe(self) -> str:
        """See `protocols.TaskRecipe`."""
        return f"{self.visual_tokenizer.vocab_size:,} codes of {self.config.visual_tokenizer}"

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return (
            "stage 2 from here, --config=configs/stage2.py"
            f" --config.init_from={workdir} --workdir=DIR"
        )
