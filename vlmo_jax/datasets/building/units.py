"""Units: consecutive entries of a split, which one process turns into shards at a time.

A unit is finished once its file of results is there, which comes by a rename after its shards: what
was killed in the middle is simply made again. Nothing here depends on who makes which unit, so the
same entries give the same bytes, whatever makes them.
"""

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlmo_jax.datasets.building import shards
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError, Reader


@dataclasses.dataclass(frozen=True)
class Unit:
    """Which unit.

    Attributes:
        split: of its entries.
        index: of the units of the split, from 0.
    """

    split: str
    index: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.split}-{self.index:06d}"


@dataclasses.dataclass(frozen=True)
class UnitResult:
    """What became of a unit; plain JSON values.

    Attributes:
        entries: number of them.
        shards: [[file name in `Work.shards`, records, bytes of records, sha256 of the file], ...].
        examples: as of `shards.SplitShards`.
        left_out: [[record id, why], ...].
    """

    entries: int
    shards: Sequence[Sequence[Any]]
    examples: Sequence[int]
    left_out: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Work:
    """The folder of a build that is not finished, which all processes of it can reach.

    Attributes:
        folder: the folder.
        shard_bytes: size of a shard.
    """

    folder: Path
    shard_bytes: int

    @property
    def shards(self) -> Path:
        """Where the shards of units lie."""
        return self.folder / "shards"

    def entries_file(self, unit: Unit) -> Path:
        """The pickled entries of a unit."""
        return self.folder / "entries" / f"{unit.name}.pickle"

    def result_file(self, unit: Unit) -> Path:
        """The results of a unit, which is finished once it is there."""
        return self.folder / "finished" / f"{unit.name}.json"

    @property
    def reader_file(self) -> Path:
        """The pickled reader, after its entries were listed."""
        return self.folder / "reader.pickle"

    @property
    def plan_file(self) -> Path:
        """What the build is going to do; while it is there, the build can go on."""
        return self.folder / "plan.json"

    def clear(self) -> None:
        """Removes all; a kill in between leaves nothing that could go on."""
        self.plan_file.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def make_folders(self) -> None:
        """Makes the folder, with those inside."""
        for name in ("entries", "finished", "shards"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def load_reader(self) -> Reader:
        """Returns the reader, which has listed its entries."""
        return pickle.loads(self.reader_file.read_bytes())

    def load_entries(self, unit: Unit) -> list[Entry]:
        """Returns the entries of a unit."""
        return pickle.loads(self.entries_file(unit).read_bytes())

    def load_result(self, unit: Unit) -> UnitResult | None:
        """Returns the results of a unit, None where it is not finished."""
        try:
            return UnitResult(**json.loads(self.result_file(unit).read_bytes()))
        except FileNotFoundError:
            return None


def build_unit(reader: Reader, work: Work, unit: Unit) -> UnitResult:
    """Loads the entries of a unit, writes its shards, and notes that it is finished.

    Args:
        reader: of the entries.
        work: where everything lies.
        unit: which one.

    Returns:
        What became of it.

    Raises:
        OSError, UserError: what the machine refuses; an entry that the reader leaves out is none.
    """
    # Its own names, so that two processes that make the same unit (a runner of Beam may) do not
    # write to one file.
    mine = f"{unit.name}.{os.uname().nodename}-{os.getpid()}"
    entries = work.load_entries(unit)
    writer = shards.ShardWriter(
        lambda i: work.shards / f"{mine}-{i}.part", reader.kind, work.shard_bytes
    )
    try:
        left_out = _write_entries(reader, entries, writer)
        written = writer.close()
    except BaseException:
        for part in work.shards.glob(f"{mine}-*.part"):
            part.unlink(missing_ok=True)
        raise
    finished = []
    for i, shard in enumerate(written.shards):
        name = f"{unit.name}-{i}"
        finished.append((name, shard.records, shard.num_bytes, file_digest(shard.path)))
        shard.path.replace(work.shards / name)
    result = UnitResult(len(entries), finished, written.examples, left_out)
    write_atomically(work.result_file(unit), json.dumps(dataclasses.asdict(result)).encode())
    return result


def _write_entries(
    reader: Reader, entries: Sequence[Entry], writer: shards.ShardWriter
) -> list[tuple[str, str]]:
    left_out = []
    for entry in entries:
        try:
            writer.write(reader.load(entry))
        except LeftOutError as error:
            left_out.append((entry.record_id, " ".join(str(error).split())))
        except RuntimeError as error:  # as TFDS calls it
            if not isinstance(error.__cause__, UnicodeEncodeError):
                raise
            left_out.append((entry.record_id, "its name or a text of it is no UTF-8; rename it"))
    return left_out


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file that is either there as a whole or not at all, whenever the process is killed.

    Args:
        path: of the file.
        data: what it will hold.
    """
    part = path.with_name(f"{path.name}.{os.uname().nodename}-{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)
