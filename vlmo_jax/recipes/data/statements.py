"""Statements about two images, true or false."""

from collections.abc import Sequence
from typing import Any

from vlmo_jax.datasets import records
from vlmo_jax.datasets.identity import identify
from vlmo_jax.datasets.sources import open_records
from vlmo_jax.input.pipeline import TrainBatches
from vlmo_jax.input.statements import StatementExamples, StatementRows
from vlmo_jax.recipes.data import opening
from vlmo_jax.recipes.data.views_and_texts import ViewsAndTexts
from vlmo_jax.recipes.visual import canvas_of


def open_statements(source: str, split: str) -> Sequence:
    """Opens one split of statements, as `sources.open_source` does for captions."""
    return open_records(source, split, [records.STATEMENTS])


class StatementsData(ViewsAndTexts):
    """Two images, each in a view of its own, and a statement; see `protocols.Data`."""

    unit = texts = "statements"

    @property
    def rows(self) -> StatementRows:
        """Sizes that say what a batch consists of."""
        model = self.config.model
        return StatementRows(model.image_size, model.text_length, canvas_of(self.config))

    def check_inputs(self) -> None:
        """See `protocols.Data`."""
        opening.check_source(
            self.config,
            build="build --format=nlvr2 (or statement_rows)",
            embedded="emoji_statements for statements about the embedded drawings",
        )
        opening.check_tokenizer(self.config)

    def check(self) -> None:
        """See `protocols.Data`."""
        _ = self.rows  # refuses impossible sizes
        super().check()

    def open(self, *, training: bool) -> None:
        """See `protocols.Data`."""
        self.tokenizer = opening.open_tokenizer(self.config)
        if training:
            self.source = opening.open_train_source(self.config, open_statements)

    def identity(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return identify(self.source)

    def batches(self, start_step: int) -> TrainBatches:
        """See `protocols.Data`."""
        assert self.tokenizer is not None  # the data are open
        maker = StatementExamples(
            self.source,
            self.tokenizer,
            self.rows,
            self.config.seed,
            augmentation=self.augmentation,
        )
        return opening.stream(self.config, maker, start_step)

    def describe(self) -> str:
        """See `protocols.Data`."""
        found = f"{len(self.source):,} training statements from {self.config.data.source}"
        found += opening.describe_mixture(self.config, self.source)
        return found + self.describe_texts(self.source)
