"""Builds a data set of a format that `vlmo_jax.datasets.readers` has, or that somebody wrote a
reader for.
"""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmo_jax.commands.limits import raise_open_files
from vlmo_jax.datasets import left_out as left_out_lib
from vlmo_jax.datasets import progress, tables
from vlmo_jax.datasets.building import manifest, places, processes, shards
from vlmo_jax.datasets.building.plan import Plan, begin_or_go_on
from vlmo_jax.datasets.building.units import Unit, UnitResult, Work
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.protocol import Reader

UNIT_RECORDS = 2048

_DATA = "data"  # in the folder of the work, what becomes the data set
_COMPLETE = "complete"  # a mark there that it can be put in place

Engine = Callable[[Reader, Work, Sequence[Unit]], Iterator[UnitResult]]


@dataclasses.dataclass(frozen=True)
class FormatReport:
    """What became of a build.

    Attributes:
        manifest: as it stands in manifest.json.
        left_out: {record or name: why it was left out}.
        notes: lines about what was read in another way than it stands there.
    """

    manifest: Mapping[str, Any]
    left_out: Mapping[str, str]
    notes: Sequence[str]


def build_format(
    reader: Reader,
    source: Path,
    out: Path,
    *,
    asked: Mapping[str, Any],
    engine: Engine = processes.build_in_processes,
    unit_records: int = UNIT_RECORDS,
    shard_bytes: int = shards.SHARD_BYTES,
    max_broken: float = 0.01,
    overwrite: bool = False,
    restart: bool = False,
) -> FormatReport:
    """Builds a data set, or goes on with one that was stopped.

    Until the end `out` does not exist; what is done lies in a hidden folder beside it.

    Args:
        reader: freshly made.
        source: folder of the download.
        out: where the data set goes.
        asked: what it is asked for with, such as {"format": "vqav2"}, for the manifest; a stopped
            build goes on only where it is the same.
        engine: makes the units.
        unit_records: entries of a unit.
        shard_bytes: size of a shard.
        max_broken: largest share of the records in [0, 1] that may be left out. More of them end
            the build, and what is done is kept for a higher share.
        overwrite: replace a data set that is already at `out`.
        restart: forget what a stopped build did.

    Returns:
        What was written and what was left out; the same, bytes of the files too, however often the
        build was stopped and whatever the engine.

    Raises:
        PlaceTakenError: something stands at `out`, or another process builds there.
        OtherBuildError: a stopped build was asked for something else.
        DataError: the download cannot be read, too much is left out, or a split has no record left.
    """
    raise_open_files()
    places.check_place(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Work(out.absolute().with_name(f".{out.name}.unfinished"), shard_bytes)
    asked = {**asked, "unit_records": unit_records, "shard_bytes": shard_bytes}
    with places.alone_at(out), places.ended_by_signals():
        places.check_place(out, overwrite)
        if restart or _was_put_in_place(work):
            work.clear()
        with _kept_or_cleared(work):
            plan, reader = begin_or_go_on(reader, work, asked, unit_records)
            results = _run(engine, reader, work, plan, max_broken)
            report = _finish(reader, work, plan, source, out.name, asked, results)
        (work.folder / _COMPLETE).touch()
        places.put_in_place(work.folder / _DATA, out, overwrite)
        work.clear()
    return report


def _was_put_in_place(work: Work) -> bool:
    """Whether the build was killed when all that was left to do was to clear up."""
    return (work.folder / _COMPLETE).exists() and not (work.folder / _DATA).exists()


@contextlib.contextmanager
def _kept_or_cleared(work: Work) -> Iterator[None]:
    """After an error says what is kept; clears away what nothing can go on from."""
    try:
        yield
    except BaseException:
        done = len(list((work.folder / "finished").glob("*.json")))
        if done and work.plan_file.is_file():
            print(
                f"{done:,} finished units are kept in {work.folder}; the same command goes on with"
                " the others.",
                file=sys.stderr,
            )
        else:
            work.clear()
        raise


def _run(
    engine: Engine, reader: Reader, work: Work, plan: Plan, max_broken: float
) -> dict[Unit, UnitResult]:
    """Makes the units that are not finished; returns all, in the order of the records."""
    units = plan.all_units()
    left_out = dict(reader.left_out())
    if not units:
        raise DataError(_nothing_listed(left_out))
    finished = {unit: result for unit in units if (result := work.load_result(unit))}
    total = sum(plan.entries.values()) + len(left_out)
    if finished:
        print(f"Going on: {len(finished):,} of {len(units):,} units are finished.")
    for result in finished.values():
        left_out |= dict(result.left_out)
    _refuse_broken(left_out, total, max_broken)
    waiting = [unit for unit in units if unit not in finished]
    with (
        progress.RecordBar(
            sum(plan.entries.values()), sum(result.entries for result in finished.values())
        ) as bar,
        contextlib.closing(_results(engine, reader, work, waiting)) as results,
    ):
        for result in results:
            bar.update(result.entries)
            left_out |= dict(result.left_out)
            _refuse_broken(left_out, total, max_broken)
    return {unit: _finished(work, unit) for unit in units}


def _results(
    engine: Engine, reader: Reader, work: Work, units: Sequence[Unit]
) -> Generator[UnitResult, None, None]:
    if units:
        yield from engine(reader, work, units)


def _finished(work: Work, unit: Unit) -> UnitResult:
    result = work.load_result(unit)
    assert result is not None, unit
    return result


def _nothing_listed(left_out: Mapping[str, str]) -> str:
    why = f"; {_first(left_out)}" if left_out else ""
    return f"the download holds no record{why}; give its folder, as --format=NAME --help says"


def _first(left_out: Mapping[str, str]) -> str:
    name, reason = next(iter(left_out.items()))
    return f"the first was left out: {tables.printable(name)}: {reason}"


def _refuse_broken(left_out: Mapping[str, str], total: int, max_broken: float) -> None:
    if len(left_out) > max_broken * total:
        raise DataError(
            f"{len(left_out):,} of {total:,} records cannot be used so far, more than --max_broken"
            f" {max_broken:.2%}; {_first(left_out)}; mend them and give --restart, or go on with a"
            " higher --max_broken"
        )


def _finish(
    reader: Reader,
    work: Work,
    plan: Plan,
    source: Path,
    name: str,
    asked: Mapping[str, Any],
    results: Mapping[Unit, UnitResult],
) -> FormatReport:
    """Puts the shards of all units together in `work.folder / _DATA`, and describes them."""
    left_out = dict(reader.left_out())
    for result in results.values():
        left_out |= dict(result.left_out)
    splits = {split: _split_shards(work, split, results) for split in plan.units}
    empty = [split for split, written in splits.items() if not written.shards]
    if empty:
        raise DataError(
            f"no record is left for split {', '.join(empty)}; {_first(left_out)}; mend the download"
            " and give --restart"
        )
    data = work.folder / _DATA
    data.mkdir(exist_ok=True)
    files = shards.write_description(
        data,
        places.dataset_name(Path(name)),
        reader.kind,
        splits,
        description=reader.description,
        license=reader.license,
    )
    made = manifest.make_manifest(reader, plan, source, splits, files, left_out, asked)
    texts = dict(getattr(reader, "files", dict)())
    texts[manifest.NAME] = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    if left_out:
        texts[left_out_lib.NAME] = left_out_lib.left_out_table(left_out)
    for file, text in texts.items():
        (data / file).write_text(tables.printable(text), "utf-8")
    return FormatReport(made, left_out, getattr(reader, "notes", ()))


def _split_shards(work: Work, split: str, results: Mapping[Unit, UnitResult]) -> shards.SplitShards:
    own = [result for unit, result in results.items() if unit.split == split]
    return shards.SplitShards(
        [
            shards.Shard(work.shards / name, records, num_bytes, sha256)
            for result in own
            for name, records, num_bytes, sha256 in result.shards
        ],
        [number for result in own for number in result.examples],
    )
