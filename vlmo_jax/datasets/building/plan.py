"""What a build is going to do: its units, and what it goes by when it was stopped and goes on."""

import array
import collections
import dataclasses
import hashlib
import inspect
import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from vlmo_jax.datasets.building.units import Unit, Work, file_digest, write_atomically
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.protocol import Entry, Reader
from vlmo_jax.datasets.splits import check_split_name

_PACKAGE = Path(__file__).parents[1]


class OtherBuildError(DataError):
    """What was begun for a place is another build than the one that is asked for."""


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """A file that a reader's entries come from.

    Attributes:
        path: as the reader gives it.
        num_bytes: its size.
        modified: its time, in nanoseconds.
        sha256: of its contents, in hexadecimal digits.
    """

    path: str
    num_bytes: int
    modified: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """The entries of a build, cut into units.

    Attributes:
        sources: the files that the entries come from.
        units: {split: number of units}, in the order of the splits.
        entries: {split: number of entries}.
    """

    sources: tuple[SourceFile, ...]
    units: Mapping[str, int]
    entries: Mapping[str, int]

    def all_units(self) -> list[Unit]:
        """Every unit, in the order of the records."""
        return [Unit(split, i) for split, count in self.units.items() for i in range(count)]


def begin_or_go_on(
    reader: Reader, work: Work, asked: Mapping[str, Any], unit_records: int
) -> tuple[Plan, Reader]:
    """Lists a reader's entries, or takes up the list that a stopped build made of the same.

    Args:
        reader: freshly made.
        work: folder of the build.
        asked: what the result depends on, {flag or other name: plain JSON value}.
        unit_records: entries of a unit.

    Returns:
        The plan, and the reader after it has listed its entries.

    Raises:
        OtherBuildError: the stopped build was asked for something else.
        MissingDataError, DataError: as `Reader.entries`; two entries have the same id.
    """
    asked = json.loads(json.dumps({**asked, "version of the code": code_digest(reader)}))
    if work.plan_file.is_file() and any((work.folder / "finished").glob("*.json")):
        noted = json.loads(work.plan_file.read_bytes())
        _refuse_other(work, noted["asked"], asked)
        sources = tuple(SourceFile(**file) for file in noted["sources"])
        _refuse_changed(work, sources)
        for part in work.folder.glob("*/*.part"):
            part.unlink(missing_ok=True)
        return Plan(sources, noted["units"], noted["entries"]), work.load_reader()
    work.clear()
    work.make_folders()
    sources = tuple(_describe_files(reader.sources()))
    counts = _list_entries(reader, work, unit_records)
    units = {split: -(-count // unit_records) for split, count in counts.items()}
    plan = Plan(sources, units, counts)
    write_atomically(work.reader_file, pickle.dumps(reader))
    noted = {"asked": asked, **dataclasses.asdict(plan)}
    write_atomically(work.plan_file, json.dumps(noted, indent=1).encode())
    return plan, reader


def _refuse_other(work: Work, noted: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for name in {**asked, **noted}:
        if noted.get(name) != asked.get(name):
            raise OtherBuildError(
                f"{work.folder} holds an unfinished build whose {name} is {noted.get(name)!r}, not"
                f" {asked.get(name)!r}; ask for the same and it goes on, or give --restart to begin"
                " anew"
            )


def _refuse_changed(work: Work, sources: Iterable[SourceFile]) -> None:
    for file in sources:
        path = Path(file.path)
        found = path.stat()
        same = found.st_size == file.num_bytes and (
            found.st_mtime_ns == file.modified or file_digest(path) == file.sha256
        )
        if not same:
            raise OtherBuildError(
                f"{path} has changed since the unfinished build in {work.folder} read it; put the"
                " old file back, or give --restart to begin anew"
            )


def _describe_files(paths: Iterable[Path]) -> Iterator[SourceFile]:
    for path in tqdm.tqdm(list(paths), unit=" files", desc="hashes of the sources", disable=None):
        found = path.stat()
        yield SourceFile(str(path), found.st_size, found.st_mtime_ns, file_digest(path))


def _list_entries(reader: Reader, work: Work, unit_records: int) -> dict[str, int]:
    """Writes the entries of each unit to a file, and returns {split: number of entries}."""
    counts: dict[str, int] = {}
    waiting: dict[str, list[Entry]] = collections.defaultdict(list)
    ids = array.array("Q")

    def write(split: str) -> None:
        unit = Unit(split, (counts[split] - 1) // unit_records)
        work.entries_file(unit).write_bytes(pickle.dumps(waiting.pop(split)))

    for entry in tqdm.tqdm(reader.entries(), unit=" entries", desc="listing", disable=None):
        if entry.split not in counts:
            check_split_name(entry.split)
            counts[entry.split] = 0
        ids.append(_short_digest(entry.record_id))
        counts[entry.split] += 1
        waiting[entry.split].append(entry)
        if len(waiting[entry.split]) == unit_records:
            write(entry.split)
    for split in list(waiting):
        write(split)
    _refuse_same_ids(work, ids, counts, unit_records)
    return counts


def _short_digest(record_id: str) -> int:
    data = hashlib.blake2b(record_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(data, "big")


def _refuse_same_ids(
    work: Work, digests: array.array, counts: Mapping[str, int], unit_records: int
) -> None:
    """Refuses two entries with the same id; of millions only short digests are kept."""
    values, numbers = np.unique(np.asarray(digests, np.uint64), return_counts=True)
    again = set(values[numbers > 1].tolist())
    first: dict[str, Unit] = {}
    if not again:
        return
    units = [Unit(s, i) for s, n in counts.items() for i in range(-(-n // unit_records))]
    for unit in units:
        for entry in work.load_entries(unit):
            if _short_digest(entry.record_id) not in again:
                continue
            if entry.record_id in first:
                raise DataError(
                    f"two records have the id {entry.record_id!r}, in split"
                    f" {first[entry.record_id].split} and in split {unit.split}; remove or rename"
                    " one of them"
                )
            first[entry.record_id] = unit


def code_digest(reader: Reader) -> str:
    """Returns a digest of the code that makes a data set, by which a change of it is noticed: all
    that is in vlmo_jax.datasets, and the file of the reader.
    """
    digest = hashlib.sha256()
    for path in sorted({*_PACKAGE.rglob("*.py"), Path(inspect.getfile(type(reader)))}):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
