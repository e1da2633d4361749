"""Rows of regions of images: the features that a detector or a grid gave, with their boxes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vlmo_jax.commands.config_errors import require
from vlmo_jax.datasets import RegionsRecord
from vlmo_jax.datasets.checking.faults import fault_of_regions
from vlmo_jax.input.attempts import (
    Report,
    UnusableRecordError,
    needed_record,
    read_record,
    require_records,
)
from vlmo_jax.input.pairs import PairColumns, PairMaker, check_caption_sizes
from vlmo_jax.input.schema import INDEX_COLUMNS, Batch, Column
from vlmo_jax.input.text.word_dropping import check_dropped

BOX = 5  # x1 / W, y1 / H, x2 / W, y2 / H, and the share of the image's area
WHOLE_IMAGE = (0.0, 0.0, 1.0, 1.0, 1.0)  # stands for the box of a region whose place is not known
_PICTURE = 64  # side in pixels


@dataclasses.dataclass(frozen=True)
class RegionRows:
    """Sizes of rows that hold the regions of an image.

    Args:
        num_regions: R, places for regions; a record with more cannot be used, one with fewer is
            padded.
        width: F, of their features.
        num_classes: C, soft classes of each region; 0: they are not read.

    Raises:
        ConfigError: a size is impossible.
    """

    num_regions: int
    width: int
    num_classes: int = 0

    def __post_init__(self) -> None:
        for name, field in (("num_regions", "num_regions"), ("width", "region_width")):
            size = getattr(self, name)
            require(
                size >= 1,
                f"config.model.{field}={size}: data of regions need a model that reads regions; set"
                f" config.model.{field} to that of the data set",
            )

    @property
    def columns(self) -> dict[str, Column]:
        """The arrays of a batch: regions float32 [R, F]; boxes float32 [R, 5], see BOX;
        region_mask bool [R], which are real; region_classes float32 [R, C], unless C is 0.
        """
        columns = {
            "regions": Column((self.num_regions, self.width), np.float32),
            "boxes": Column((self.num_regions, BOX), np.float32),
            "region_mask": Column((self.num_regions,), np.bool_),
        }
        if self.num_classes:
            columns["region_classes"] = Column((self.num_regions, self.num_classes), np.float32)
        return columns

    def synthetic(
        self, rows: int, rng: np.random.Generator, *, vocab_size: int = 0, first_row: int = 0
    ) -> Batch:
        """See `schema.Rows.synthetic`."""
        batch = {
            name: rng.random((rows, *column.shape), np.float32)
            for name, column in self.columns.items()
        }
        return {**batch, "region_mask": np.ones((rows, self.num_regions), np.bool_)}

    def write(self, batch: Batch, row: int, record: RegionsRecord) -> None:
        """Writes the regions of a record into a row of a batch.

        Raises:
            UnusableRecordError: their numbers or widths are others, or values are not finite.
        """
        count = len(record.features)
        fault = self._misfit(record) or fault_of_regions(record)
        if fault:
            raise UnusableRecordError(record.image_id, fault)
        for name in self.columns:  # a record that gave way to this one may have left something
            batch[name][row, count:] = 0
        batch["regions"][row, :count] = record.features
        batch["boxes"][row, :count] = relative_boxes(record)
        batch["region_mask"][row, :count] = True
        if self.num_classes:
            batch["region_classes"][row, :count] = record.classes

    def _misfit(self, record: RegionsRecord) -> str:
        """What keeps a record out of such a row, and the cure; "" if nothing."""
        count, width = record.features.shape
        if width != self.width:
            return (
                f"its features have {width} numbers, config.model.region_width={self.width}; set"
                f" --config.model.region_width={width}"
            )
        if count > self.num_regions:
            return (
                f"it has {count} regions, more than config.model.num_regions={self.num_regions};"
                f" set --config.model.num_regions={count}"
            )
        if self.num_classes and record.classes.shape != (count, self.num_classes):
            return (
                f"its soft classes are {record.classes.shape}, not {(count, self.num_classes)}; set"
                f" config.model.region_classes to those of the data set"
            )
        return ""


def relative_boxes(record: RegionsRecord) -> np.ndarray:
    """The boxes of a record as models read them: [R, 5] float32, see BOX."""
    if not len(record.boxes):
        return np.tile(np.asarray(WHOLE_IMAGE, np.float32), (len(record.features), 1))
    width, height = float(record.width), float(record.height)
    boxes = record.boxes / np.asarray([width, height, width, height], np.float32)
    left, top, right, bottom = boxes.T
    return np.column_stack([boxes, (right - left) * (bottom - top)]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class RegionPairRows(PairColumns):
    """Sizes of rows that hold the regions of an image and a text.

    Args:
        regions: sizes of the regions.
        text_length, max_masked_tokens: as of `PairColumns`.

    Raises:
        ConfigError: a size is impossible.
    """

    regions: RegionRows
    text_length: int
    max_masked_tokens: int

    def __post_init__(self) -> None:
        check_caption_sizes(self.text_length, self.max_masked_tokens)

    @property
    def images(self) -> RegionRows:
        """Sizes of the regions."""
        return self.regions


@dataclasses.dataclass(frozen=True)
class RegionPairExamples(PairMaker):
    """The rows of regions with texts.

    Args:
        source, tokenizer, rows, seed, captions, mask_rate, masking_unit,
            dropped_words: as of `PairMaker`.
        dropped_regions: share of the regions that are left out, each on its own, but not all.

    Raises:
        ConfigError: an argument is out of range.
    """

    source: Sequence[RegionsRecord]
    rows: RegionPairRows
    dropped_regions: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_dropped("data.dropped_regions", self.dropped_regions)

    def write_image(self, batch: Batch, row: int, record: Any, rng: np.random.Generator) -> None:
        """See `PairMaker.write_image`: the regions of the record that are not dropped."""
        if self.dropped_regions:
            record = leave_out(record, rng.random(len(record.features)) < self.dropped_regions)
        self.rows.regions.write(batch, row, record)


def leave_out(record: RegionsRecord, dropped: np.ndarray) -> RegionsRecord:
    """The record without some of its regions [R] bool; as it is, where all would be left out."""
    if dropped.all():
        return record
    arrays = {name: getattr(record, name) for name in ("features", "boxes", "classes")}
    kept = {name: array[~dropped] for name, array in arrays.items() if len(array) == len(dropped)}
    return dataclasses.replace(record, **kept)


@dataclasses.dataclass(frozen=True)
class EvalRegions:
    """Makes the rows of an evaluation, for `evaluation.split_batches`.

    Args:
        source: the records.
        rows: sizes.

    Raises:
        ValueError: there are no records.
    """

    source: Sequence[RegionsRecord]
    rows: RegionRows

    def __post_init__(self) -> None:
        require_records(self.source)

    @property
    def columns(self) -> dict[str, Column]:
        """Those of `RegionRows`, and index int32 and valid bool."""
        return {**self.rows.columns, **INDEX_COLUMNS}

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes record `index` into a row; `position` is its place in the split, the same number.

        Raises:
            BrokenDataError: the record cannot be used.
        """
        with needed_record(index):
            self.rows.write(batch, row, read_record(self.source, index))
        batch["index"][row], batch["valid"][row] = position, True
        return Report(seen=1)

    def picture(self, index: int) -> np.ndarray:
        """The boxes of record `index`, of whose image nothing else is known, uint8 [S, S, 3]."""
        with needed_record(index):
            boxes = relative_boxes(read_record(self.source, index))
        image = Image.new("RGB", (_PICTURE, _PICTURE), "white")
        draw = ImageDraw.Draw(image)
        for left, top, right, bottom, _ in np.clip(boxes, 0, 1) * (_PICTURE - 1):
            draw.rectangle((left, top, right, bottom), outline=(70, 110, 170))
        return np.asarray(image)
