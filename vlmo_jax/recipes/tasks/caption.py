"""Fine-tuning on captions of images, to write them."""

from collections.abc import Mapping
from pathlib import Path

from vlmo_jax.commands.config_errors import naming, require
from vlmo_jax.commands.fields import Choice, Kind, Number, Whole
from vlmo_jax.input.text.masked_rows import check_masking_tokenizer
from vlmo_jax.models.flops import caption_flops
from vlmo_jax.recipes.data import opening
from vlmo_jax.recipes.tasks.settings import Settings, check_heads, check_init
from vlmo_jax.recipes.visual import seen_by
from vlmo_jax.tasks.abilities import WritesCaptions
from vlmo_jax.tasks.beam_search import SpecialTokens, special_tokens
from vlmo_jax.tasks.caption import MASKED, TRAININGS, CaptionTask


class CaptionRecipe(Settings):
    """Words of captions, from left to right; see `protocols.TaskRecipe`."""

    allowed: Mapping[str, Kind] = {
        "training": Choice(TRAININGS),
        "mask_rate": Number(above=0, high=1),
        "smoothing": Number(low=0, high=0.999),
        "drop_worst": Number(low=0, high=0.999),
        "drop_worst_after": Whole(low=0),
    }
    needs = WritesCaptions

    @property
    def reads(self) -> tuple[str, ...]:
        """See `protocols.TaskRecipe`."""
        return (*seen_by(self.config).columns, "token_ids", "token_mask")

    def check_inputs(self) -> None:
        """See `protocols.TaskRecipe`."""
        check_init(self.config, "a model that was pre-trained on image-text pairs, stage 3")

    def check(self, batch_shards: int) -> None:
        """See `protocols.TaskRecipe`."""
        check_heads(self.config, "task", ("caption",))
        hidden = self.config.data.max_masked_tokens
        require(
            not hidden,
            f"config.data.max_masked_tokens={hidden} hides words that"
            " config.task.kind='caption' does not read: it hides its own; use 0",
        )

    def open(self) -> None:
        """See `protocols.TaskRecipe`."""
        self._tokenizer = opening.open_tokenizer(self.config)
        if self.config.task.training == MASKED:
            with naming(self.config, "tokenizer", "task.training"):
                check_masking_tokenizer(self._tokenizer)

    def make(self) -> CaptionTask:
        """See `protocols.TaskRecipe`; a benchmark opens no tokenizer, and no id matters to it."""
        data, tokenizer = self.config.data, getattr(self, "_tokenizer", None)
        return CaptionTask(
            special_tokens(tokenizer) if tokenizer else SpecialTokens(0, 0, 0, 0, ()),
            tokenizer.vocab_size if tokenizer else self.config.model.vocab_size,
            mean=tuple(data.mean),
            std=tuple(data.std),
            dropout=self.dropout,
            seen=seen_by(self.config).columns,
            **self.weights,
        )

    def forward_flops(self) -> int:
        """See `protocols.TaskRecipe`."""
        return caption_flops(self.config.model)

    def next_step(self, workdir: Path) -> str:
        """See `protocols.TaskRecipe`."""
        return f"captions of your own images: python -m vlmo_jax.caption IMAGES --model={workdir}"
