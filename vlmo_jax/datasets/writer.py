"""Writes data sets: ArrayRecord shards and TFDS metadata, all of it or nothing."""

import contextlib
import pathlib
import shutil
import tempfile
from typing import Any

from vlmo_jax.datasets import records
from vlmo_jax.datasets.building import places, shards
from vlmo_jax.datasets.building.shards import SHARD_BYTES
from vlmo_jax.datasets.errors import DataError


class DatasetWriter:
    """Context manager that writes records and puts the data set at its place when the block ends
    without an error.

    Everything is written to a folder beside `out` which is renamed at the end, or removed after an
    error, Ctrl-C or SIGTERM; what a killed process left is removed by the next one. One process at
    a time writes to a place. The same records in the same order give the same bytes. Each split has
    a shard open; memory does not grow with the data set.

    Args:
        out: folder of the data set; its name becomes the name of the data set.
        kind: what its records are.
        description: what the data set is, for dataset_info.json.
        license: under which terms, for dataset_info.json and LICENSE.
        shard_bytes: a shard is closed once it holds that many bytes of records.
        overwrite: replace a data set that is already at `out`.

    Raises:
        PlaceTakenError: `out` exists and `overwrite` is false, it holds something else than a data
            set, or another process writes there.
    """

    def __init__(
        self,
        out: pathlib.Path,
        *,
        kind: records.RecordKind = records.IMAGES,
        description: str,
        license: str = "",
        shard_bytes: int = SHARD_BYTES,
        overwrite: bool = False,
    ) -> None:
        places.check_place(out, overwrite)
        self._out, self._kind, self._overwrite = out, kind, overwrite
        self._info = {"description": description, "license": license}
        self._shard_bytes = shard_bytes
        self._splits: dict[str, shards.ShardWriter] = {}

    def __enter__(self) -> "DatasetWriter":
        self._out.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(places.alone_at(self._out))
            places.check_place(self._out, self._overwrite)
            stack.enter_context(places.ended_by_signals())
            self._folder = pathlib.Path(
                tempfile.mkdtemp(prefix=f".{self._out.name}.incomplete-", dir=self._out.parent)
            )
            self._left_at_end = stack.pop_all()
        return self

    def write(self, split: str, record: Any) -> None:
        """Appends a record of the writer's kind to a split, which begins with its first record."""
        if split not in self._splits:
            self._splits[split] = shards.ShardWriter(
                lambda i: self._folder / f"{split}-{i}.incomplete", self._kind, self._shard_bytes
            )
        self._splits[split].write(record)

    def add_file(self, name: str, text: str) -> None:
        """Puts a text file beside the shards."""
        (self._folder / name).write_text(text, encoding="utf-8")

    def __exit__(self, error_type, error, traceback) -> None:
        try:
            written = {name: split.close() for name, split in self._splits.items()}
            if error_type is None:
                self._finish(written)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._left_at_end.close()

    def _finish(self, written: dict[str, shards.SplitShards]) -> None:
        if not written:
            raise DataError(f"no record was written for {self._out}, so there is no data set")
        shards.write_description(
            self._folder, places.dataset_name(self._out), self._kind, written, **self._info
        )
        places.put_in_place(self._folder, self._out, self._overwrite)
