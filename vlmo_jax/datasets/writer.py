"""Writes data sets: ArrayRecord shards and TFDS metadata, all of it or nothing."""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from array_record.python import array_record_module

from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import DataError, PlaceTakenError

SHARD_BYTES = 256 * 2**20


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
        _check_place(out, overwrite)
        self._out, self._kind, self._overwrite = out, kind, overwrite
        self._info = {"description": description, "license": license}
        self._shard_bytes = shard_bytes
        self._splits: dict[str, _Split] = {}

    def __enter__(self) -> "DatasetWriter":
        self._out.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_alone_at(self._out))
            _check_place(self._out, self._overwrite)
            stack.enter_context(_ended_by_signals())
            self._folder = pathlib.Path(
                tempfile.mkdtemp(prefix=f".{self._out.name}.incomplete-", dir=self._out.parent)
            )
            self._left_at_end = stack.pop_all()
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
            self._left_at_end.close()

    def _finish(self, infos: list[tfds.core.SplitInfo]) -> None:
        if not infos:
            raise DataError(f"no record was written for {self._out}, so there is no data set")
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
        _check_place(self._out, self._overwrite)
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


@contextlib.contextmanager
def _alone_at(out: pathlib.Path) -> Iterator[None]:
    """Inside, no other process writes to `out`; what dead ones left beside it is cleared away."""
    path = out.with_name(f".{out.name}.building")
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode("utf-8", "replace").strip()
            os.close(file)
            raise PlaceTakenError(
                f"another build writes to {out} ({holder or 'just started'}); wait for it, stop it,"
                " or name another folder"
            ) from None
        except OSError:  # a file system without locks
            os.close(file)
            path.unlink(missing_ok=True)
            yield
            return
        # The holder before us may have removed the file between our two calls.
        if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            break
        os.close(file)
    try:
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {os.uname().nodename}".encode())
        _clear_left_overs(out)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _clear_left_overs(out: pathlib.Path) -> None:
    """Removes what killed builds left; a data set that one was about to replace comes back."""
    prefix = f".{out.name}.incomplete-"
    for folder in [path for path in out.parent.iterdir() if path.name.startswith(prefix)]:
        if folder.name.endswith(".replaced") and not out.exists():
            folder.rename(out)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP end the process by way of its `finally` blocks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, lambda n, frame: sys.exit(128 + n))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_place(out: pathlib.Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise PlaceTakenError(
            f"{out} already exists; name another folder or give --overwrite to replace it"
        )
    if not (out / "dataset_info.json").is_file():
        raise PlaceTakenError(
            f"{out} exists and is no data set, so --overwrite does not touch it; name another"
            " folder"
        )


def _dataset_name(out: pathlib.Path) -> str:
    # TFDS takes letters, digits and underscores, a letter first.
    name = re.sub(r"[^a-z0-9]+", "_", out.name.lower()).strip("_")
    return name if name[:1].isalpha() else f"data_{name}".rstrip("_")
