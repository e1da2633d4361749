"""The Arrow files of VLMo and ViLT: images with captions.

Format `vlmo_arrow`. Files of record batches as VLMo's and ViLT's scripts write them, such as

    SRC/coco_caption_karpathy_train.arrow       columns image (the file's bytes), caption (a list),
    SRC/conceptual_caption_train_0.arrow        image_id and split; VG's have more, which are not
    SRC/vg.arrow                                read

in folders or not. Ids are the file's name and the image_id, "vg/2317982"; an image_id that comes
again in its file gets the number of its row too, and is counted.

Splits: the column's, val as "validation" and COCO's restval as "train"; without the column a word
in the name of the file, else "train".

Blank captions, and those that an image has again but for white space, are dropped and counted;
images without one are left out and named. Files of questions
(VQA) or of statements about two images (NLVR2) are left out and named: build these tasks from their
official files. A file that was cut is refused.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.download_reader import DownloadReader
from vlmo_jax.datasets.readers.download_walk import walk
from vlmo_jax.datasets.readers.findings import Findings
from vlmo_jax.datasets.readers.places import InArrow, naming_damage, open_arrow, read_batch
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError
from vlmo_jax.datasets.readers.sample_entries import captioned
from vlmo_jax.datasets.readers.samples import clean
from vlmo_jax.datasets.readers.split_names import split_called, split_of

_SUFFIX = ".arrow"
_NEEDED = ("image", "caption", "image_id")


class VlmoArrowReader(DownloadReader):
    """Reads Arrow files of images with captions.

    Args:
        source: folder of the files.

    Raises:
        MissingDataError: there is no such folder.
    """

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        self.description = f"Images with captions from the Arrow files of {source.name}."

    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`."""
        self._findings = Findings()
        paths = [
            folder.at(name)
            for folder in walk(self.source)
            for name in folder.files
            if name.endswith(_SUFFIX)
        ]
        used = 0
        for path in paths:
            names = open_arrow(self.source / path).schema.names
            if missing := [name for name in _NEEDED if name not in names]:
                self._findings.left_out[path] = (
                    f"it has no column {' nor '.join(missing)}, but {', '.join(names[:20])}"
                )
                continue
            used += 1
            yield from self._entries(path)
        if not used:
            raise MissingDataError(
                f"{self.source} has no Arrow file (*{_SUFFIX}) with the columns"
                f" {', '.join(_NEEDED)}; give the folder of VLMo's or ViLT's files"
            )

    def _entries(self, path: str) -> Iterator[Entry]:
        reader, seen, number = open_arrow(self.source / path), set(), 0
        for batch in range(reader.num_record_batches):
            for row, (image_id, split, texts) in enumerate(self._rows(path, reader, batch)):
                record_id = f"{path.removesuffix(_SUFFIX)}/{image_id}"
                if record_id in seen:
                    record_id = f"{record_id}#{number}"
                    self._findings.add(split, {"repeated ids": 1})
                seen.add(record_id)
                number += 1
                try:
                    captions = [clean(text) for text in texts]
                except LeftOutError as error:
                    self._findings.left_out[record_id] = str(error)
                    continue
                place = InArrow(path, batch, row, "image")
                entry = captioned(split, record_id, place, captions, self._findings)
                if entry is not None:
                    yield entry

    def _rows(
        self, path: str, reader: pa.RecordBatchFileReader, number: int
    ) -> Iterator[tuple[Any, str, list[Any]]]:
        """The image_id, split and captions of each row."""
        with naming_damage(self.source / path):
            batch = read_batch(reader, number)
            ids, captions = (batch.column(name).to_pylist() for name in ("image_id", "caption"))
        splits: list[Any] = [None] * len(ids)
        if "split" in batch.schema.names:
            with naming_damage(self.source / path):
                splits = batch.column("split").to_pylist()
        for image_id, texts, split in zip(ids, captions, splits, strict=True):
            named = split_called(str(split)) if split else split_of(f"{path}/")
            if not re.fullmatch(r"\w+", named):
                raise DataError(f"{self.source / path} has split {named[:60]!r}, which is no name")
            yield image_id, named, texts if isinstance(texts, list) else [texts]
