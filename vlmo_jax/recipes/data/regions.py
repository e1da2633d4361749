"""Regions of images with texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from vlmo_jax.commands.config_errors import naming
from vlmo_jax.commands.fields import Extra, Kind, Number
from vlmo_jax.datasets import open_region_source
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.input.attempts import UnusableRecordError, read_record
from vlmo_jax.input.pairs import check_caption_sizes
from vlmo_jax.input.pipeline import TrainBatches
from vlmo_jax.input.regions import RegionPairExamples, RegionPairRows, RegionRows
from vlmo_jax.input.schema import empty_batch
from vlmo_jax.input.text.word_dropping import check_dropped
from vlmo_jax.recipes.data import opening
from vlmo_jax.recipes.data.texts_of_pairs import TEXTS_OF_PAIRS, TextsOfPairs
from vlmo_jax.recipes.visual import region_rows


class RegionPairsData(TextsOfPairs):
    """Regions of images with captions, of which one is drawn each time; see `protocols.Data`."""

    allowed: Mapping[str, Kind] = {
        **opening.LOADED,
        **TEXTS_OF_PAIRS,
        "dropped_regions": Extra(Number()),
    }

    @property
    def rows(self) -> RegionPairRows:
        """Sizes that say what a batch consists of."""
        length, most = self.config.model.text_length, self.config.data.max_masked_tokens
        return RegionPairRows(region_rows(self.config), length, most)

    def check_inputs(self) -> None:
        """See `protocols.Data`."""
        opening.check_source(
            self.config, build="build", embedded="DIR made by python -m vlmo_jax.grid_features"
        )
        opening.check_tokenizer(self.config)

    def check(self) -> None:
        """See `protocols.Data`."""
        region_rows(self.config)
        check_caption_sizes(self.config.model.text_length, self.config.data.max_masked_tokens)
        self.check_texts()
        check_dropped("data.dropped_regions", self.config.data.get("dropped_regions", 0.0))
        opening.check_loading(self.config)

    def open(self, *, training: bool) -> None:
        """See `protocols.Data`."""
        self.open_texts()
        if training:
            self.source = opening.open_train_source(self.config, open_region_source)
            with naming(self.config, "data.source", "data.split"):
                require_fitting(self.source, region_rows(self.config))

    def batches(self, start_step: int) -> TrainBatches:
        """See `protocols.Data`."""
        assert self.tokenizer is not None  # the data are open
        maker = RegionPairExamples(
            self.source,
            self.tokenizer,
            self.rows,
            self.config.seed,
            dropped_regions=self.config.data.get("dropped_regions", 0.0),
            **self.drawing,
        )
        return opening.stream(self.config, maker, start_step)

    def describe(self) -> str:
        """See `protocols.Data`."""
        found = f"regions of {len(self.source):,} training images from {self.config.data.source}"
        return found + self.describe_beside()

    def preprocessing(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        model = self.config.model
        return {"num_regions": model.num_regions, "region_width": model.region_width}


def require_fitting(source: Sequence, rows: RegionRows) -> None:
    """Refuses records whose first one does not fit the rows; others are looked at when read.

    Raises:
        DataError: it does not.
    """
    if not len(source):
        return
    try:
        rows.write(empty_batch(rows.columns, 1), 0, read_record(source, 0))
    except UnusableRecordError as error:
        record_id, reason = error.args
        raise DataError(f"the first record, {record_id!r}, cannot be used: {reason}") from error
