"""Shards of records and what is said about them: ArrayRecord files and TFDS metadata."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from vlmo_jax.datasets import records

SHARD_BYTES = 256 * 2**20


@dataclasses.dataclass
class Shard:
    """One file of records.

    Attributes:
        path: where it lies.
        records: number of them.
        num_bytes: of the records, before they are compressed.
        sha256: of the file, "" where nobody asked.
    """

    path: Path
    records: int = 0
    num_bytes: int = 0
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class SplitShards:
    """A split that was written.

    Attributes:
        shards: in the order of the records.
        examples: how many examples each record has; empty where a record is one.
    """

    shards: Sequence[Shard]
    examples: Sequence[int]


class ShardWriter:
    """Writes records to one file after another; one is open at a time.

    Args:
        path_of: function of the number of a file, from 0, that gives its path.
        kind: of the records.
        shard_bytes: a file is closed once it holds that many bytes of records.
    """

    def __init__(
        self, path_of: Callable[[int], Path], kind: records.RecordKind, shard_bytes: int
    ) -> None:
        self._path_of, self._kind, self._shard_bytes = path_of, kind, shard_bytes
        self._shards: list[Shard] = []
        self._examples: list[int] = []
        self._writer: Any = None

    def write(self, record: Any) -> None:
        """Appends a record of the writer's kind."""
        data = self._kind.serialize(record)
        if self._writer is None:
            self._shards.append(Shard(self._path_of(len(self._shards))))
            self._writer = array_record_module.ArrayRecordWriter(
                str(self._shards[-1].path), f"group_size:{self._kind.group_size}"
            )
        shard = self._shards[-1]
        self._writer.write(data)
        shard.records += 1
        shard.num_bytes += len(data)
        if self._kind.examples_field:
            self._examples.append(len(getattr(record, self._kind.examples_field)))
        if shard.num_bytes >= self._shard_bytes:
            self._close_file()

    def close(self) -> SplitShards:
        """Ends the last file and returns what was written."""
        if self._writer is not None:
            self._close_file()
        return SplitShards(self._shards, self._examples)

    def _close_file(self) -> None:
        self._writer.close()
        self._writer = None


def write_description(
    folder: Path,
    dataset_name: str,
    kind: records.RecordKind,
    splits: Mapping[str, SplitShards],
    *,
    description: str,
    license: str,
) -> dict[str, list[Path]]:
    """Moves shards to a folder, under the names that TFDS gives them, and describes them there.

    After a kill it can be called again: shards that were moved stay where they are.

    Args:
        folder: becomes the data set.
        dataset_name: as TFDS takes it.
        kind: of the records.
        splits: {name: its shards, on the same disk as `folder`}.
        description: one sentence, for dataset_info.json.
        license: for dataset_info.json and LICENSE.

    Returns:
        {name of the split: where its shards are now}.
    """
    infos, moved = [], {}
    for name, split in splits.items():
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder, dataset_name=dataset_name, split=name, filetype_suffix="array_record"
        )
        moved[name] = _move(split.shards, template)
        infos.append(
            tfds.core.SplitInfo(
                name=name,
                shard_lengths=[shard.records for shard in split.shards],
                num_bytes=sum(shard.num_bytes for shard in split.shards),
                filename_template=template,
            )
        )
        if kind.examples_field:
            np.save(folder / f"examples-{name}.npy", np.array(split.examples, np.int32))
    # check_data=True would read through tf.data.
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=kind.features,
        split_infos=infos,
        filename_template=infos[0].filename_template.replace(split=None),
        check_data=False,
        metadata=tfds.core.MetadataDict({records.MARKER: kind.marker}),
        description=description,
        license=license,
    )
    return moved


def _move(shards: Sequence[Shard], template: tfds.core.ShardedFileTemplate) -> list[Path]:
    """Renames shards to what TFDS calls them, those that do not lie there yet."""
    count = len(shards)
    paths = [Path(template.sharded_filepath(shard_index=i, num_shards=count)) for i in range(count)]
    for shard, path in zip(shards, paths, strict=True):
        if shard.path.exists() or not path.exists():
            shard.path.rename(path)
    return paths
