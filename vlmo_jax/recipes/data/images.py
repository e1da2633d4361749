"""Images alone, one random view of each."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vlmo_jax.commands.fields import Extra, Flag, Kind
from vlmo_jax.datasets import open_image_source
from vlmo_jax.datasets.identity import identify
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.images.pixels import check_crop
from vlmo_jax.input.pipeline import TrainBatches
from vlmo_jax.input.plain_images import ImageExamples, ImageRows, check_image_size
from vlmo_jax.input.schema import Rows
from vlmo_jax.recipes.data import opening


class ImagesData:
    """Any set of images; their texts are not read. See `protocols.Data`.

    Args:
        config: of a recipe.
    """

    allowed: Mapping[str, Kind] = {
        **opening.LOADED,
        "crop_scale": opening.CROP,
        "flip": Flag(),
        "fast_views": Extra(Flag()),
        "mean": Extra(opening.CHANNELS),
        "std": Extra(opening.CHANNELS),
    }
    unit = "images"
    tokenizer = None

    def __init__(self, config: ConfigDict) -> None:
        self._config = config
        self.source: Sequence = ()

    @property
    def rows(self) -> Rows:
        """Sizes that say what a batch consists of."""
        return self._image_rows

    @property
    def _image_rows(self) -> ImageRows:
        return ImageRows(self._config.model.image_size)

    @property
    def augmentation(self) -> Augmentation:
        """How views of the images are drawn."""
        data = self._config.data
        return Augmentation(
            crop_scale=tuple(data.crop_scale),
            flip=data.flip,
            randaugment=(),
            fast=data.get("fast_views", False),
        )

    def check_inputs(self) -> None:
        """See `protocols.Data`."""
        opening.check_source(
            self._config, build="build", embedded="emoji for the embedded drawings"
        )

    def check(self) -> None:
        """See `protocols.Data`."""
        check_image_size(self._config.model.image_size)
        check_crop(self._config.data.crop_scale)
        opening.check_loading(self._config)

    def open(self, *, training: bool) -> None:
        """See `protocols.Data`."""
        if training:
            self.source = opening.open_train_source(self._config, open_image_source)

    def identity(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return identify(self.source)

    def batches(self, start_step: int) -> TrainBatches:
        """See `protocols.Data`."""
        maker = ImageExamples(self.source, self._image_rows, self._config.seed, self.augmentation)
        return opening.stream(self._config, maker, start_step)

    def describe(self) -> str:
        """See `protocols.Data`."""
        found = f"{len(self.source):,} training images from {self._config.data.source}"
        return found + opening.describe_mixture(self._config, self.source)

    def describe_long_texts(self, share: float) -> str:
        """Nothing: no texts are read."""
        return ""

    def preprocessing(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return opening.image_preprocessing(self._config)
