"""Images alone, in two views, with hidden patches."""

from collections.abc import Mapping
from typing import Any

from vlmo_jax.commands.fields import Kind, Whole
from vlmo_jax.datasets.identity import identify
from vlmo_jax.input.images.block_masking import check_block_masking
from vlmo_jax.input.images.color_jitter import check_color_jitter
from vlmo_jax.input.images.normalisation import check_normalisation
from vlmo_jax.input.images.pixels import check_crop
from vlmo_jax.input.masked_images import MaskedImageExamples, MaskedViews, check_tokenizer_view
from vlmo_jax.input.pipeline import TrainBatches
from vlmo_jax.recipes.data import opening
from vlmo_jax.recipes.data.images import ImagesData


class MaskedImagesData(ImagesData):
    """Images whose patches are hidden from the model, and shown to a visual tokenizer; see
    `protocols.Data`.
    """

    allowed: Mapping[str, Kind] = {
        **ImagesData.allowed,
        "tokenizer_image_size": Whole(),
        "color_jitter": opening.JITTER,
        "num_masked": Whole(),
        "min_block": Whole(),
        "mean": opening.CHANNELS,
        "std": opening.CHANNELS,
    }

    @property
    def rows(self) -> MaskedViews:
        """Sizes that say what a batch consists of."""
        model, data = self._config.model, self._config.data
        return MaskedViews(
            image_size=model.image_size,
            tokenizer_image_size=data.tokenizer_image_size,
            patch_size=model.patch_size,
            num_masked=data.num_masked,
            min_block=data.min_block,
        )

    def check(self) -> None:
        """See `protocols.Data`."""
        model, data = self._config.model, self._config.data
        check_block_masking(model.image_size, model.patch_size, data.num_masked, data.min_block)
        check_tokenizer_view(data.tokenizer_image_size)
        check_normalisation(data.mean, data.std)
        check_crop(data.crop_scale)
        check_color_jitter(data.color_jitter)
        opening.check_loading(self._config)

    def identity(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return identify(self.source)

    def batches(self, start_step: int) -> TrainBatches:
        """See `protocols.Data`."""
        config, data = self._config, self._config.data
        maker = MaskedImageExamples(
            self.source,
            self.rows,
            config.seed,
            crop_scale=tuple(data.crop_scale),
            flip=data.flip,
            color_jitter=tuple(data.color_jitter),
            fast=data.get("fast_views", False),
        )
        return opening.stream(config, maker, start_step)

    def describe(self) -> str:
        """See `protocols.Data`."""
        grid = self._config.model.image_size // self._config.model.patch_size
        hidden = f"{self._config.data.num_masked} of {grid**2} patches hidden"
        return f"{super().describe()}, {hidden}"

    def preprocessing(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        size = self._config.data.tokenizer_image_size
        return {**super().preprocessing(), "tokenizer_image_size": size}
