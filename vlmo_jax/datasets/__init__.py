"""Data sets on disk: what a record is, how data sets are built, checked, measured and opened.

    open_source("emoji", "train")      the drawings shipped with the package
    open_source("/data/mine", "train") a folder made by `python -m vlmo_jax.datasets.build`

`python -m vlmo_jax.datasets.check DIR` reads all of one, `python -m vlmo_jax.datasets.stats DIR` says what is in it.
"""

from vlmo_jax.datasets.records import Record
from vlmo_jax.datasets.sources import BrokenRecordError, RecordSource, open_source

__all__ = ["BrokenRecordError", "Record", "RecordSource", "open_source"]
