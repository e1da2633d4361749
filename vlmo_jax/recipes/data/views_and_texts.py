"""What data of images with texts share: views of images, and a tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vlmo_jax.commands.fields import Extra, Flag, Kind, Number
from vlmo_jax.input.images.affine import check_affine
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.images.color_jitter import check_color_jitter
from vlmo_jax.input.images.drawing_style import check_share
from vlmo_jax.input.images.normalisation import check_normalisation
from vlmo_jax.input.images.pixels import check_crop
from vlmo_jax.input.images.randaugment import check_randaugment
from vlmo_jax.input.text.coverage import describe_coverage
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.recipes.data import opening


class ViewsAndTexts:
    """The part of a Data of `protocols.py` that does not depend on what the texts are.

    Args:
        config: of a recipe.

    Attributes:
        texts: what a text is, in the plural.
        tokenizer, source: once the data are open.
    """

    allowed: Mapping[str, Kind] = {
        **opening.LOADED,
        "crop_scale": opening.CROP,
        "flip": Flag(),
        "randaugment": opening.RANDAUGMENT,
        "randaugment_fill": opening.COLOUR,
        "color_jitter": opening.JITTER,
        "affine": Extra(opening.AFFINE),
        "grey": Extra(Number()),
        "outlines": Extra(Number()),
        "mean": opening.CHANNELS,
        "std": opening.CHANNELS,
    }
    unit = texts = "examples"

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
            affine=tuple(data.get("affine", ())),
            grey=data.get("grey", 0.0),
            outlines=data.get("outlines", 0.0),
        )

    def check(self) -> None:
        """See `protocols.Data`."""
        data = self.config.data
        check_normalisation(data.mean, data.std)
        check_crop(data.crop_scale)
        check_randaugment(data.randaugment)
        check_color_jitter(data.color_jitter)
        check_affine(data.get("affine", ()))
        for name in ("grey", "outlines"):
            check_share(name, data.get(name, 0.0))
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
            f"{share:.1%} of the {self.texts} were longer than config.model.text_length={length}"
            " tokens and were cut."
        )

    def preprocessing(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return opening.image_preprocessing(self.config)
