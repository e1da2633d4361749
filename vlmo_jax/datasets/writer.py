"""Writes data sets: ArrayRecord shards and TFDS metadata, all of it or nothing."""

import pathlib
import re
import shutil
import tempfile
from typing import Any

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from vlmo_jax.datasets import records

SHARD_BYTES = 256 * 2**20


class DatasetWriter:
    """Context manager that writes records and puts the data set at its place when the block ends
    without an error.

    Everything is written to a folder beside `out` which is renamed at the end, or removed after an
    error. The same records in the same order give the same bytes. Each split has a shard open;
    memory does not grow with the data set.

    Args:
        out: folder of the data set; its name becomes the name of the data set.
        kind: what its records are.
        description: what the data set is, for dataset_info.json.
        license: under which terms, for dataset_info.json and LICENSE.
        shard_bytes: a shard is closed once it holds that many bytes of records.
        overwrite: replace a data set that is already at `out`.

    Raises:
        FileExistsError: `out` exists and `overwrite` is false, or it holds something else than a
            data set.
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
        _check_place(out, overwrite)
        self._out, self._kind = out, kind
        self._info = {"description": description, "license": license}
        self._shard_bytes = shard_bytes
        self._splits: dict[str, _Split] = {}

    def __enter__(self) -> "DatasetWriter":
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._folder = pathlib.Path(
            tempfile.mkdtemp(prefix=f".{self._out.name}.incomplete-", dir=self._out.parent)
        )
        return self

    def write(self, split: str, record: Any) -> None:
        """Appends a record of the writer's kind to a split, which begins with its first record."""
        if split not in self._splits:
            self._splits[split] = _Split(
                self._folder,
                _dataset_name(self._out),
                split,
                self._shard_bytes,
                self._kind.group_size,
            )
        self._splits[split].write(self._kind.serialize(record))

    def add_file(self, name: str, text: str) -> None:
        """Puts a text file beside the shards."""
        (self._folder / name).write_text(text, encoding="utf-8")

    def __exit__(self, error_type, error, traceback) -> None:
        try:
            infos = [split.close() for split in self._splits.values()]
            if error_type is None:
                self._finish(infos)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _finish(self, infos: list[tfds.core.SplitInfo]) -> None:
        if not infos:
            raise ValueError(f"no record was written for {self._out}, so there is no data set")
        # check_data=True would read through tf.data.
        tfds.folder_dataset.write_metadata(
            data_dir=self._folder,
            features=self._kind.features,
            split_infos=infos,
            filename_template=infos[0].filename_template.replace(split=None),
            check_data=False,
            metadata=tfds.core.MetadataDict({records.MARKER: self._kind.marker}),
            **self._info,
        )
        self._folder.chmod(0o755)
        if self._out.exists():
            replaced = self._folder.with_name(f"{self._folder.name}.replaced")
            self._out.rename(replaced)
            self._folder.rename(self._out)
            shutil.rmtree(replaced)
        else:
            self._folder.rename(self._out)


class _Split:
    """The shards of one split; their names say "of how many", so they get them at the end."""

    def __init__(
        self, folder: pathlib.Path, dataset_name: str, name: str, shard_bytes: int, group_size: int
    ) -> None:
        self._name = name
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._options = f"group_size:{group_size}"
        self._template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=dataset_name, split=name, filetype_suffix="array_record"
        )
        self._lengths: list[int] = []
        self._bytes = 0
        self._bytes_in_shard = 0
        self._writer: Any = None

    def write(self, data: bytes) -> None:
        if self._writer is None:
            self._writer = array_record_module.ArrayRecordWriter(
                str(self._shard(len(self._lengths))), self._options
            )
            self._lengths.append(0)
            self._bytes_in_shard = 0
        self._writer.write(data)
        self._lengths[-1] += 1
        self._bytes += len(data)
        self._bytes_in_shard += len(data)
        if self._bytes_in_shard >= self._shard_bytes:
            self._close_shard()

    def close(self) -> tfds.core.SplitInfo:
        if self._writer is not None:
            self._close_shard()
        count = len(self._lengths)
        for i in range(count):
            self._shard(i).rename(self._template.sharded_filepath(shard_index=i, num_shards=count))
        return tfds.core.SplitInfo(
            name=self._name,
            shard_lengths=self._lengths,
            num_bytes=self._bytes,
            filename_template=self._template,
        )

    def _shard(self, index: int) -> pathlib.Path:
        return self._folder / f"{self._name}-{index}.incomplete"

    def _close_shard(self) -> None:
        self._writer.close()
        self._writer = None


def _check_place(out: pathlib.Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise FileExistsError(
            f"{out} already exists; name another folder or give --overwrite to replace it"
        )
    if not (out / "dataset_info.json").is_file():
        raise FileExistsError(
            f"{out} exists and is no data set, so --overwrite does not touch it; name another"
            " folder"
        )


def _dataset_name(out: pathlib.Path) -> str:
    # TFDS takes letters, digits and underscores, a letter first.
    name = re.sub(r"[^a-z0-9]+", "_", out.name.lower()).strip("_")
    return name if name[:1].isalpha() else f"data_{name}".rstrip("_")
