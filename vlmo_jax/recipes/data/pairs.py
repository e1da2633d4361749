"""Image-text pairs."""

from collections.abc import Mapping
from typing import Any

from vlmo_jax.commands.fields import Kind, Number, Text, Whole
from vlmo_jax.datasets.identity import identify
from vlmo_jax.input.pairs import PairExamples, PairRows, check_caption_sizes
from vlmo_jax.input.pipeline import TrainBatches
from vlmo_jax.input.plain_images import check_image_size
from vlmo_jax.input.text.captions import check_captions
from vlmo_jax.input.text.masking import check_mask_rate
from vlmo_jax.recipes.data import opening
from vlmo_jax.recipes.data.views_and_texts import ViewsAndTexts


class PairsData(ViewsAndTexts):
    """Images with captions, of which one is drawn each time; see `protocols.Data`."""

    allowed: Mapping[str, Kind] = {
        **ViewsAndTexts.allowed,
        "captions": Text(),
        "mask_rate": Number(),
        "max_masked_tokens": Whole(),
    }
    unit, texts = "pairs", "captions"

    @property
    def rows(self) -> PairRows:
        """Sizes that say what a batch consists of."""
        model, data = self.config.model, self.config.data
        return PairRows(model.image_size, model.text_length, data.max_masked_tokens)

    def check_inputs(self) -> None:
        """See `protocols.Data`."""
        opening.check_source(self.config, build="build", embedded="emoji for the embedded drawings")
        opening.check_tokenizer(self.config)

    def check(self) -> None:
        """See `protocols.Data`."""
        model, data = self.config.model, self.config.data
        check_image_size(model.image_size)
        check_caption_sizes(model.text_length, data.max_masked_tokens)
        if data.max_masked_tokens:
            check_mask_rate(data.mask_rate)
        check_captions(data.captions)
        super().check()

    def open(self, *, training: bool) -> None:
        """See `protocols.Data`."""
        self.tokenizer = opening.open_tokenizer(self.config)
        if training:
            self.source = opening.open_train_source(self.config)

    def identity(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return identify(self.source)

    def batches(self, start_step: int) -> TrainBatches:
        """See `protocols.Data`."""
        config = self.config
        assert self.tokenizer is not None  # the data are open
        maker = PairExamples(
            self.source,
            self.tokenizer,
            self.rows,
            config.seed,
            captions=config.data.captions,
            augmentation=self.augmentation,
            mask_rate=config.data.mask_rate,
        )
        return opening.stream(config, maker, start_step)

    def describe(self) -> str:
        """See `protocols.Data`."""
        found = f"{len(self.source):,} training images from {self.config.data.source}"
        found += opening.describe_mixture(self.config, self.source)
        return found + self.describe_texts(self.source)
