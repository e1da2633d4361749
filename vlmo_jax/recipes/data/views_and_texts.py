"""What data of images with texts share: views of images, and a tokenizer."""

from collections.abc import Mapping
from typing import Any

from vlmo_jax.commands.fields import Choice, Extra, Flag, Kind, Number
from vlmo_jax.input.images.affine import check_affine
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.images.color_jitter import check_color_jitter
from vlmo_jax.input.images.drawing_style import check_share
from vlmo_jax.input.images.normalisation import check_normalisation
from vlmo_jax.input.images.pixels import check_crop
from vlmo_jax.input.images.randaugment import check_randaugment
from vlmo_jax.recipes.data import opening
from vlmo_jax.recipes.data.texts_of_pairs import DescribesTexts
from vlmo_jax.recipes.visual import RESIZES


class ViewsAndTexts(DescribesTexts):
    """The part of a Data of `protocols.py` that does not depend on what the texts are."""

    allowed: Mapping[str, Kind] = {
        **opening.LOADED,
        "resize": Extra(Choice(RESIZES)),
        "crop_scale": opening.CROP,
        "flip": Flag(),
        "fast_views": Extra(Flag()),
        "randaugment": opening.RANDAUGMENT,
        "randaugment_fill": opening.COLOUR,
        "color_jitter": opening.JITTER,
        "affine": Extra(opening.AFFINE),
        "grey": Extra(Number()),
        "outlines": Extra(Number()),
        "mean": opening.CHANNELS,
        "std": opening.CHANNELS,
    }

    @property
    def augmentation(self) -> Augmentation:
        """How views of the images are drawn."""
        data = self.config.data
        return Augmentation(
            crop_scale=tuple(data.crop_scale),
            flip=data.flip,
            fast=data.get("fast_views", False),
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

    def preprocessing(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return opening.image_preprocessing(self.config)
