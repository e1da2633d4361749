"""Measures of regions of images."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from vlmo_jax.datasets import records, tables
from vlmo_jax.datasets.measures.common import CountTokens, TextMeasures, spread


class RegionStats(NamedTuple):
    """Measures of a split of regions; records that cannot be read are left out.

    Attributes:
        regions: int64 [images], number of regions of each.
        widths: numbers that a region has, of all records.
        boxes, classes: number of images with boxes, and with soft classes.
        captions: int64 [images], number of captions of each.
        texts: of the captions.
        largest: largest absolute value of a feature.
        broken: number of records that cannot be read.
    """

    regions: np.ndarray
    widths: set[int]
    boxes: int
    classes: int
    captions: np.ndarray
    texts: TextMeasures
    largest: float
    broken: int


def measure_regions(
    read: Iterable[records.RegionsRecord | None], count_tokens: CountTokens | None = None
) -> RegionStats:
    """Measures a split.

    Args:
        read: its records, None for one that cannot be read.
        count_tokens: of a text; None: tokens are not counted.
    """
    regions: list[int] = []
    captions: list[int] = []
    texts: list[str] = []
    widths: set[int] = set()
    boxes = classes = broken = 0
    largest = 0.0
    for record in read:
        if record is None:
            broken += 1
            continue
        regions.append(len(record.features))
        captions.append(len(record.texts))
        texts += record.texts
        widths.add(record.features.shape[1])
        boxes += len(record.boxes) > 0
        classes += len(record.classes) > 0
        largest = max(largest, float(np.abs(record.features).max(initial=0.0)))
    return RegionStats(
        np.array(regions, np.int64),
        widths,
        boxes,
        classes,
        np.array(captions, np.int64),
        TextMeasures.of(texts, count_tokens),
        largest,
        broken,
    )


def format_region_stats(stats: Mapping[str, RegionStats], text_length: int) -> str:
    """Returns the measures as text.

    Args:
        stats: split -> measures.
        text_length: tokens at which a caption is cut.
    """
    first = next(iter(stats.values()))
    header = ["split", "images", "unreadable", "regions an image", "numbers a region"]
    header += ["with boxes", "with classes", "largest feature", "captions an image"]
    header += first.texts.header("caption", text_length)
    rows = [
        [split, len(s.regions), s.broken, spread(s.regions), ", ".join(map(str, sorted(s.widths)))]
        + [s.boxes, s.classes, f"{s.largest:.3g}", spread(s.captions)]
        + s.texts.cells(text_length)
        for split, s in stats.items()
    ]
    warnings = [line for split, s in stats.items() for line in s.texts.warnings(split)]
    table = tables.format_table(header, rows)
    return "\n".join(
        ["Spreads read: smallest / median / 95 % / largest.", "", table, "", *warnings]
    )
