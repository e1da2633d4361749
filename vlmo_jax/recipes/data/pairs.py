"""Image-text pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vlmo_jax.commands.fields import Extra, Flag, Kind, Number, Text, Whole
from vlmo_jax.datasets.identity import identify
from vlmo_jax.input.images.affine import check_affine
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.images.color_jitter import check_color_jitter
from vlmo_jax.input.images.drawing_style import check_share
from vlmo_jax.input.images.normalisation import check_normalisation
from vlmo_jax.input.images.pixels import check_crop
from vlmo_jax.input.images.randaugment import check_randaugment
from vlmo_jax.input.pairs import PairExamples, PairRows, check_caption_sizes
from vlmo_jax.input.pipeline import TrainBatches
from vlmo_jax.input.plain_images import check_image_size
from vlmo_jax.input.text.captions import check_captions
from vlmo_jax.input.text.coverage import describe_coverage
from vlmo_jax.input.text.masking import check_mask_rate
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.recipes.data import opening


class PairsData:
    """Images with captions, of which one is drawn each time; see `protocols.Data`.

    Args:
        config: of a recipe.
    """

    allowed: Mapping[str, Kind] = {
        **opening.LOADED,
        "captions": Text(),
        "crop_scale": opening.CROP,
        "flip": Flag(),
        "randaugment": opening.RANDAUGMENT,
        "randaugment_fill": opening.COLOUR,
        "color_jitter": opening.JITTER,
        "affine": Extra(opening.AFFINE),
        "grey": Extra(Number()),
        "outlines": Extra(Number()),
        "mask_rate": Number(),
        "max_masked_tokens": Whole(),
        "mean": opening.CHANNELS,
        "std": opening.CHANNELS,
    }
    unit = "pairs"

    def __init__(self, config: ConfigDict) -> None:
        self._config = config
        self.tokenizer: Tokenizer | None = None
        self.source: Sequence = ()

    @property
    def rows(self) -> PairRows:
        """Sizes that say what a batch consists of."""
        model, data = self._config.model, self._config.data
        return PairRows(model.image_size, model.text_length, data.max_masked_tokens)

    @property
    def augmentation(self) -> Augmentation:
        """How views of the images are drawn."""
        data = self._config.data
        return Augmentation(
            crop_scale=tuple(data.crop_scale),
            flip=data.flip,
            randaugment=tuple(data.randaugment),
            randaugment_fill=tuple(data.randaugment_fill),
            color_jitter=tuple(data.color_jitter),
            affine=tuple(data.get("affine", ())),
            grey=data.get("grey", 0.0),
            outlines=data.get("outlines", 0.0),
        )

    def check_inputs(self) -> None:
        """See `protocols.Data`."""
        opening.check_source(
            self._config, build="build", embedded="emoji for the embedded drawings"
        )
        opening.check_tokenizer(self._config)

    def check(self) -> None:
        """See `protocols.Data`."""
        model, data = self._config.model, self._config.data
        check_image_size(model.image_size)
        check_caption_sizes(model.text_length, data.max_masked_tokens)
        if data.max_masked_tokens:
            check_mask_rate(data.mask_rate)
        check_normalisation(data.mean, data.std)
        check_captions(data.captions)
        check_crop(data.crop_scale)
        check_randaugment(data.randaugment)
        check_color_jitter(data.color_jitter)
        check_affine(data.get("affine", ()))
        for name in ("grey", "outlines"):
            check_share(name, data.get(name, 0.0))
        opening.check_loading(self._config)

    def open(self, *, training: bool) -> None:
        """See `protocols.Data`."""
        self.tokenizer = opening.open_tokenizer(self._config)
        if training:
            self.source = opening.open_train_source(self._config)

    def identity(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return identify(self.source)

    def batches(self, start_step: int) -> TrainBatches:
        """See `protocols.Data`."""
        config = self._config
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
        found = f"{len(self.source):,} training images from {self._config.data.source}"
        found += opening.describe_mixture(self._config, self.source)
        if self.tokenizer is None or not len(self.source):
            return found
        length = self._config.model.text_length
        return f"{found}; {describe_coverage(self.source, self.tokenizer, length)}"

    def describe_long_texts(self, share: float) -> str:
        """See `protocols.Data`."""
        length = self._config.model.text_length
        return (
            f"{share:.1%} of the captions were longer than config.model.text_length={length} tokens"
            " and were cut."
        )

    def preprocessing(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return opening.image_preprocessing(self._config)
