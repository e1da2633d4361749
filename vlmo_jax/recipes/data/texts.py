"""Texts alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vlmo_jax.commands.fields import Flag, Kind, Number, Whole
from vlmo_jax.datasets import open_text_source
from vlmo_jax.datasets.identity import identify
from vlmo_jax.input.masked_texts import MaskedTextExamples
from vlmo_jax.input.pipeline import TrainBatches
from vlmo_jax.input.text.coverage import describe_coverage
from vlmo_jax.input.text.masked_rows import TextRows, check_text_sizes
from vlmo_jax.input.text.masking import check_mask_rate
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.recipes.data import opening


class TextsData:
    """Rows of text with masked words; see `protocols.Data`.

    Args:
        config: of a recipe.
    """

    allowed: Mapping[str, Kind] = {
        **opening.LOADED,
        "packing": Flag(),
        "mask_rate": Number(),
        "max_masked_tokens": Whole(),
    }
    unit = "texts"

    def __init__(self, config: ConfigDict) -> None:
        self._config = config
        self.tokenizer: Tokenizer | None = None
        self.source: Sequence = ()

    @property
    def rows(self) -> TextRows:
        """Sizes that say what a batch consists of."""
        return TextRows(self._config.model.text_length, self._config.data.max_masked_tokens)

    def check_inputs(self) -> None:
        """See `protocols.Data`."""
        opening.check_source(
            self._config, build="build_text", embedded="glosses for the embedded texts"
        )
        opening.check_tokenizer(self._config)

    def check(self) -> None:
        """See `protocols.Data`."""
        data = self._config.data
        check_mask_rate(data.mask_rate)
        check_text_sizes(self._config.model.text_length, data.max_masked_tokens)
        opening.check_loading(self._config)

    def open(self, *, training: bool) -> None:
        """See `protocols.Data`."""
        self.tokenizer = opening.open_tokenizer(self._config)
        if training:
            self.source = opening.open_train_source(self._config, open_text_source)

    def identity(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return identify(self.source)

    def batches(self, start_step: int) -> TrainBatches:
        """See `protocols.Data`."""
        config = self._config
        assert self.tokenizer is not None  # the data are open
        maker = MaskedTextExamples(
            self.source,
            self.tokenizer,
            self.rows,
            config.seed,
            mask_rate=config.data.mask_rate,
            packing=config.data.packing,
            order=opening.record_order(config, self.source),
        )
        return opening.stream(config, maker, start_step)

    def describe(self) -> str:
        """See `protocols.Data`."""
        found = f"{len(self.source):,} training texts from {self._config.data.source}"
        found += opening.describe_mixture(self._config, self.source)
        if self.tokenizer is None or not len(self.source):
            return found
        length = self._config.model.text_length
        return f"{found}; {describe_coverage(self.source, self.tokenizer, length, cuts=False)}"

    def describe_long_texts(self, share: float) -> str:
        """See `protocols.Data`."""
        length = self._config.model.text_length
        return (
            f"{share:.1%} of the texts were longer than config.model.text_length={length} tokens;"
            " of those a row holds a part."
        )

    def preprocessing(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return {"image_size": self._config.model.image_size}
