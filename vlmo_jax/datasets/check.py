"""Reads and decodes all of data sets and reports what is wrong: python -m vlmo_jax.datasets.check
DIR [DIR ...]

Broken is a record that cannot be read, an image that training could not decode, and an id that two
records have; a record with a blank caption or none, a blank question, answers that are more or
fewer than their counts say, a blank statement or a label beside 1, 0 and -1; a shard that is not
the one of manifest.json. Each is listed, and the exit status is 1.

Images that repeat another one pixel for pixel, and texts that repeat another word for word, are
counted and, if they stand in two splits, listed: training on one and testing on the other would
flatter the result. So are pictures that training data share with an evaluation, in one data set or
in any of several: by their pixels, by the name that COCO gave them ("coco/391895" at the end of an
id, or COCO's file name), and by their looks, that is nearly the same, as after another compression
or at another size. Splits named train... and restval are training data, all others evaluations.
What is shared does not change the exit status: whether it matters, you know.
"""

import argparse
import collections
import dataclasses
import functools
import hashlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.folders import require_writable
from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets import progress, record_sources, sources, tables
from vlmo_jax.datasets.building.manifest import differing_files
from vlmo_jax.datasets.checking import faults
from vlmo_jax.datasets.checking.pictures import Picture, recognize
from vlmo_jax.datasets.checking.shared import Place, Shared, SharedPictures
from vlmo_jax.datasets.records import RecordKind, StatementRecord, TextRecord

_SHOWN = 20  # shared pictures


@dataclasses.dataclass
class SplitCheck:
    """What was found in a split.

    Attributes:
        records: number of records.
        broken: (which record, what is wrong with it) for each broken record.
        repeats: (image id, split and id of the first image with the same pixels) for each image
            that repeats one; for texts likewise.
    """

    records: int
    broken: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    repeats: list[tuple[str, tuple[str, str]]] = dataclasses.field(default_factory=list)


class _Finding(NamedTuple):
    """What was found in a record.

    Attributes:
        name: of the record, for the report.
        record_id: its id, None if it could not be read.
        inner_ids: those of the questions in it.
        content: digest of its pixels or its text, None if they could not be read.
        problem: what is wrong with it, "" if nothing.
        pictures: its pictures.
    """

    name: str
    record_id: str | None
    content: bytes | None
    problem: str
    inner_ids: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()


def check_dataset(
    source: str, *, pictures: SharedPictures | None = None, num_threads: int | None = None
) -> dict[str, SplitCheck]:
    """Reads every record of a data set of any kind, and decodes every image.

    Args:
        source: as in `sources.open_records`.
        pictures: gathers the pictures, to be compared with those of other data sets.
        num_threads: threads that read and decode, None for one a core.

    Returns:
        {split: what was found in it}.

    Raises:
        FileNotFoundError, ValueError: as `sources.open_records`, for the first split that cannot be
            opened.
    """
    first_with_content: dict[bytes, tuple[str, str]] = {}
    ids: set[str] = set()
    checks = {}
    kind = sources.kind_of(source)
    opened = {split: sources.open_records(source, split) for split in sources.split_sizes(source)}
    for split, records in opened.items():
        check = checks[split] = SplitCheck(len(records))
        inner: set[str] = set()
        check_record = functools.partial(_check_record, kind, records)
        for finding in progress.map_in_order(
            check_record, range(len(records)), unit=" records", num_threads=num_threads
        ):
            problem = finding.problem or _problem_of_ids(finding, ids, inner)
            if problem:
                check.broken.append((finding.name, problem))
            ids.update([] if finding.record_id is None else [finding.record_id])
            inner.update(finding.inner_ids)
            if finding.content is not None:
                first = first_with_content.setdefault(finding.content, (split, finding.name))
                if first != (split, finding.name):
                    check.repeats.append((finding.name, first))
            if pictures is not None:
                pictures.add(Place(source, split, finding.name), finding.pictures)
    return checks


def _problem_of_ids(finding: _Finding, ids: set[str], inner: set[str]) -> str:
    """What is wrong with the ids of a record: its own is unique in the data set, those of questions
    in their split, since one split may be a part of another (VQAv2's test-dev of its test).
    """
    if finding.record_id in ids:
        return "its id is that of an earlier record"
    own = finding.inner_ids
    again = next((name for name in own if name in inner or own.count(name) > 1), None)
    return "" if again is None else f"{again} is the id of two questions of the split"


def _check_record(kind: RecordKind, records: Sequence, index: int) -> _Finding:
    try:
        record = records[index]
    except record_sources.BrokenRecordError as error:
        return _Finding(f"record {index}", None, None, str(error))
    record_id = getattr(record, kind.id_field)
    inner_ids = faults.inner_ids(record)
    try:
        pictures = tuple(recognize(getattr(record, name)) for name in kind.image_fields)
    except ValueError as error:
        problem = f"its image cannot be decoded: {error}"
        return _Finding(record_id, record_id, None, problem, inner_ids)
    content = b"".join(picture.pixels for picture in pictures) + _digest_of_text(record)
    fault = faults.fault_of(kind, record)
    return _Finding(record_id, record_id, content or None, fault, inner_ids, pictures)


def _digest_of_text(record: Any) -> bytes:
    """Of texts, and of statements, since several speak of the same pair of images."""
    text = {TextRecord: "text", StatementRecord: "statement"}.get(type(record))
    if text is None:
        return b""
    return hashlib.blake2b(getattr(record, text).encode("utf-8"), digest_size=16).digest()


def format_checks(checks: dict[str, SplitCheck]) -> str:
    """Returns the report as text."""
    rows, lines = [], []
    for split, check in checks.items():
        elsewhere = [(name, first) for name, first in check.repeats if first[0] != split]
        rows.append(
            (
                split,
                check.records,
                len(check.broken),
                len(check.repeats) - len(elsewhere),
                len(elsewhere),
            )
        )
        lines += [f"broken: {split}: {name}: {problem}" for name, problem in check.broken]
        lines += [
            f"repeated: {split}: {name} is {first[1]} of {first[0]}"
            for name, first in elsewhere[:_SHOWN]
        ]
        if len(elsewhere) > _SHOWN:
            lines.append(f"repeated: {split}: and {len(elsewhere) - _SHOWN:,} more")
    table = tables.format_table(
        ("split", "records", "broken", "repeated", "of another split"), rows
    )
    return "\n".join([*lines, table])


def format_shared(shared: Sequence[Shared]) -> str:
    """Returns lines about the pictures that training and evaluation share, and their number."""
    lines = [
        f"shared: {item.evaluation.split} of {item.evaluation.source}: {item.evaluation.record}"
        f" {item.how} {item.training.record} of {item.training.split} of {item.training.source}"
        for item in shared[:_SHOWN]
    ]
    if len(shared) > _SHOWN:
        lines.append(f"and {len(shared) - _SHOWN:,} more; --list FILE writes all")
    counts = collections.Counter(
        (item.evaluation.source, item.evaluation.split, item.how, item.training.source)
        for item in shared
    )
    rows = [
        (f"{source} {split}", how, training, n)
        for (source, split, how, training), n in counts.items()
    ]
    table = tables.format_table(("evaluation", "pictures", "training data", "records"), rows)
    return "\n".join([*lines, "", table])


@told_in_one_line()
def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line, checks, prints the report and exits with status 1 if anything is
    broken.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.datasets.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources",
        metavar="DIR",
        nargs="+",
        help="folder of a data set, or the name of one that comes with the package",
    )
    parser.add_argument(
        "--list",
        type=user_path,
        metavar="FILE",
        help="write all shared pictures there: data set, split and record of the evaluation, how,"
        " and those of the training data",
    )
    args = parser.parse_args(argv)
    if args.list:
        require_writable(args.list.absolute().parent)
    pictures = SharedPictures()
    whole = [_report(source, pictures, titled=len(args.sources) > 1) for source in args.sources]
    shared = pictures.find()
    if shared:
        print(f"\n{format_shared(shared)}")
    if args.list:
        lines = ["\t".join((*i.evaluation, i.how, *i.training)) + "\n" for i in shared]
        args.list.write_text("".join(lines), "utf-8")
    if not all(whole):
        sys.exit(1)


def _report(source: str, pictures: SharedPictures, *, titled: bool) -> bool:
    """Checks a data set and prints what was found; returns whether all is well."""
    try:
        checks = check_dataset(source, pictures=pictures)
    except ValueError as error:
        sys.exit(f"error: {error}")
    if titled:
        print(f"{source}:")
    print(format_checks(checks))
    files = differing_files(sources.source_folder(source))
    print("".join(f"broken: {name}: {problem}\n" for name, problem in files), end="")
    whole = not files and not any(check.broken for check in checks.values())
    if whole:
        print(f"All of {source} can be read.")
    return whole


if __name__ == "__main__":
    main()
