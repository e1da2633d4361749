"""Data sets on disk: what a record is, how data sets are built, checked, measured and opened.

    open_source("emoji", "train")             the drawings shipped with the package
    open_source("/data/mine", "train")        a folder made by `python -m vlmo_jax.datasets.build`
    open_text_source("glosses", "train")      the texts shipped with the package
    open_text_source("/data/texts", "train")  one made by `python -m vlmo_jax.datasets.build_text`
    sources.open_records("emoji_questions", "train")  questions made of the drawings

`python -m vlmo_jax.datasets.check DIR` reads all of one, `python -m vlmo_jax.datasets.stats DIR`
says what is in it.
"""

from vlmo_jax.datasets.record_sources import BrokenRecordError, RecordSource
from vlmo_jax.datasets.records import Record, RegionsRecord, TextRecord
from vlmo_jax.datasets.sources import (
    open_image_source,
    open_region_source,
    open_source,
    open_text_source,
)

__all__ = [
    "BrokenRecordError",
    "Record",
    "RecordSource",
    "RegionsRecord",
    "TextRecord",
    "open_image_source",
    "open_region_source",
    "open_source",
    "open_text_source",
]
