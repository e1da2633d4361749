"""What data of fine-tuning share: views of images beside a text that is read as it stands."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vlmo_jax.commands.fields import Flag, Kind
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.images.color_jitter import check_color_jitter
from vlmo_jax.input.images.normalisation import check_normalisation
from vlmo_jax.input.images.pixels import check_crop
from vlmo_jax.input.images.randaugment import check_randaugment
from vlmo_jax.input.text.coverage import describe_coverage
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.recipes.data import opening


class ViewsAndTexts:
    """The part of a Data of `protocols.py` that does not depend on what is asked of the images.

    Args:
        config: of a recipe.

    Attributes:
        tokenizer, source: once the data are open.
    """

    allowed: Mapping[str, Kind] = {
        **opening.LOADED,
        "crop_scale": opening.CROP,
        "flip": Flag(),
        "randaugment": opening.RANDAUGMENT,
        "randaugment_fill": opening.COLOUR,
        "color_jitter": opening.JITTER,
        "mean": opening.CHANNELS,
        "std": opening.CHANNELS,
    }
    unit = "examples"

    def __init__(self, config: ConfigDict) -> None:
        self.config = config
        self.tokenizer: Tokenizer | None = None
        self.source: Sequence = ()

    @property
    def augmentation(self) -> Augmentation:
        """How views of the images are drawn."""
        data = self.config.data
        return Augmentation(
            crop_scale=tuple(data.crop_scale),
            flip=data.flip,
            randaugment=tuple(data.randaugment),
            randaugment_fill=tuple(data.randaugment_fill),
            color_jitter=tuple(data.color_jitter),
        )

    def check(self) -> None:
        """See `protocols.Data`."""
        data = self.config.data
        check_normalisation(data.mean, data.std)
        check_crop(data.crop_scale)
        check_randaugment(data.randaugment)
        check_color_jitter(data.color_jitter)
        opening.check_loading(self.config)

    def describe_texts(self, records: Sequence) -> str:
        """How well the tokenizer fits the texts of the records, in words behind others."""
        if self.tokenizer is None or not len(records):
            return ""
        length = self.config.model.text_length
        return f"; {describe_coverage(records, self.tokenizer, length)}"

    def describe_long_texts(self, share: float) -> str:
        """See `protocols.Data`."""
        length = self.config.model.text_length
        return (
            f"{share:.1%} of the {self.unit} were longer than config.model.text_length={length}"
            " tokens and were cut."
        )

    def preprocessing(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return opening.image_preprocessing(self.config)
