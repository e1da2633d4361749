"""Examples of statements about two images: both in view, the text in tokens, and whether it is
true, written straight into a row of a batch.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vlmo_jax.datasets.records import StatementRecord
from vlmo_jax.input.attempts import (
    ReplacesBroken,
    Report,
    UnusableRecordError,
    decode_image,
    needed_record,
    picture_for_views,
    read_record,
    require_records,
)
from vlmo_jax.input.canvas import CanvasRows
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.plain_images import ImageForm, ImageRows, check_image_size
from vlmo_jax.input.schema import INDEX_COLUMNS, Batch, Column
from vlmo_jax.input.text.plain_texts import synthetic_texts, text_columns, write_text
from vlmo_jax.input.text.tokenizer import Tokenizer, check_text_length

SIDES = ("image_0", "image_1")
UNKNOWN = -1  # label of a statement of which nobody says whether it is true


def side_name(name: str, side: str) -> str:
    """The name of a column of one of two images, by its name where there is one image."""
    return side + name.removeprefix("image")


@dataclasses.dataclass(frozen=True)
class StatementRows:
    """Sizes of rows that hold two images and a statement about them.

    Args:
        image_size: S, side of the images in pixels.
        text_length: T, tokens of a statement, those of its begin and end included.
        canvas: of images that keep their shape; None: they become squares.

    Raises:
        ConfigError: a size is impossible.
    """

    image_size: int
    text_length: int
    canvas: CanvasRows | None = None

    def __post_init__(self) -> None:
        check_image_size(self.image_size)
        check_text_length(self.text_length)

    @property
    def images(self) -> ImageForm:
        """What the images become."""
        return self.canvas or ImageRows(self.image_size)

    @property
    def inputs(self) -> dict[str, Column]:
        """The columns that a model reads: those of `images` as image_0 and image_1, token_ids int32
        [T], token_mask bool [T].
        """
        columns = self.images.columns
        sides = {side_name(name, side): columns[name] for side in SIDES for name in columns}
        return {**sides, **text_columns(self.text_length)}

    @property
    def columns(self) -> dict[str, Column]:
        """The arrays of a batch: `inputs`, and label int32, 1 true and 0 false."""
        return {**self.inputs, "label": Column((), np.int32)}

    def synthetic(
        self, rows: int, rng: np.random.Generator, *, vocab_size: int = 0, first_row: int = 0
    ) -> Batch:
        """See `schema.Rows.synthetic`."""
        drawn = [self.images.synthetic(rows, rng) for _ in SIDES]
        return {
            **{
                side_name(name, side): values
                for side, batch in zip(SIDES, drawn, strict=True)
                for name, values in batch.items()
            },
            **synthetic_texts(rows, self.text_length, rng, vocab_size),
            "label": rng.integers(0, 2, rows).astype(np.int32),
        }


@dataclasses.dataclass(frozen=True)
class StatementExamples(ReplacesBroken):
    """Makes the rows of the training stream, for `pipeline.stream_batches`.

    Args:
        source: the records.
        tokenizer: of `load_tokenizer`.
        rows: sizes; longer statements are cut, and counted.
        seed: 0 to 2**32 - 1.
        augmentation: how views of the images are drawn, each on its own.
    """

    source: Sequence[StatementRecord]
    tokenizer: Tokenizer
    rows: StatementRows
    seed: int
    augmentation: Augmentation = Augmentation()

    @property
    def columns(self) -> dict[str, Column]:
        """Those of `StatementRows`."""
        return self.rows.columns

    def _write(self, batch: Batch, row: int, index: int, rng: np.random.Generator) -> Report:
        record, images = read_record(self.source, index), self.rows.images
        if int(record.label) == UNKNOWN:
            raise UnusableRecordError(
                record.statement_id, "nobody says whether it is true; train on a split with labels"
            )
        least = images.min_pixels(self.augmentation)
        for side in SIDES:
            with picture_for_views(
                getattr(record, side),
                record.statement_id,
                min_pixels=least,
                fast=self.augmentation.fast,
            ) as picture:
                images.write_view(batch, row, picture, self.augmentation, rng, side)
        whole = write_text(batch, row, record.statement, self.tokenizer, eager=True)
        batch["label"][row] = record.label
        return Report(seen=1, texts=1, truncated=0 if whole else 1)


@dataclasses.dataclass(frozen=True)
class EvalStatements:
    """Makes the rows of an evaluation, for `evaluation.split_batches`: every statement once, with
    whole images.

    Args:
        source: the records.
        tokenizer: of the texts.
        rows: sizes.

    Raises:
        ValueError: there are no statements.
    """

    source: Sequence[StatementRecord]
    tokenizer: Tokenizer
    rows: StatementRows

    def __post_init__(self) -> None:
        require_records(self.source)

    @property
    def columns(self) -> dict[str, Column]:
        """The inputs of `StatementRows`, and index int32 and valid bool."""
        return {**self.rows.inputs, **INDEX_COLUMNS}

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes statement `index` into a row; `position` is its place in the split, the same
        number.

        Raises:
            BrokenDataError: the record or one of its images is broken.
        """
        with needed_record(index):
            record = read_record(self.source, index)
            for side in SIDES:
                image = decode_image(getattr(record, side), record.statement_id)
                self.rows.images.write(batch, row, image, side)
        whole = write_text(batch, row, record.statement, self.tokenizer, eager=False)
        batch["index"][row], batch["valid"][row] = position, True
        return Report(seen=1, texts=1, truncated=0 if whole else 1)
