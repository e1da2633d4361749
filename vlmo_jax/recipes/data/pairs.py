"""Image-text pairs."""

from collections.abc import Mapping

from vlmo_jax.commands.fields import Kind
from vlmo_jax.input.pairs import PairExamples, PairRows, check_caption_sizes
from vlmo_jax.input.pipeline import TrainBatches
from vlmo_jax.input.plain_images import check_image_size
from vlmo_jax.recipes.data import opening
from vlmo_jax.recipes.data.texts_of_pairs import TEXTS_OF_PAIRS, TextsOfPairs
from vlmo_jax.recipes.data.views_and_texts import ViewsAndTexts
from vlmo_jax.recipes.visual import canvas_of


class PairsData(TextsOfPairs, ViewsAndTexts):
    """Images with captions, of which one is drawn each time; see `protocols.Data`."""

    allowed: Mapping[str, Kind] = {**ViewsAndTexts.allowed, **TEXTS_OF_PAIRS}

    @property
    def rows(self) -> PairRows:
        """Sizes that say what a batch consists of."""
        model, data = self.config.model, self.config.data
        return PairRows(
            model.image_size, model.text_length, data.max_masked_tokens, canvas_of(self.config)
        )

    def check_inputs(self) -> None:
        """See `protocols.Data`."""
        opening.check_source(self.config, build="build", embedded="emoji for the embedded drawings")
        opening.check_tokenizer(self.config)

    def check(self) -> None:
        """See `protocols.Data`."""
        model, data = self.config.model, self.config.data
        check_image_size(model.image_size)
        check_caption_sizes(model.text_length, data.max_masked_tokens)
        self.check_texts()
        super().check()

    def open(self, *, training: bool) -> None:
        """See `protocols.Data`."""
        self.open_texts()
        if training:
            self.source = opening.open_train_source(self.config)

    def batches(self, start_step: int) -> TrainBatches:
        """See `protocols.Data`."""
        config = self.config
        assert self.tokenizer is not None  # the data are open
        maker = PairExamples(
            self.source,
            self.tokenizer,
            self.rows,
            config.seed,
            augmentation=self.augmentation,
            **self.drawing,
        )
        return opening.stream(config, maker, start_step)

    def describe(self) -> str:
        """See `protocols.Data`."""
        found = f"{len(self.source):,} training images from {self.config.data.source}"
        return found + self.describe_beside()
