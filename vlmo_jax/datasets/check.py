"""Reads and decodes all of a data set and reports what is wrong: python -m vlmo_jax.datasets.check
DIR

Broken is a record that cannot be read, an image that training could not decode, a record with a
blank caption or none, and an id that two records have: each is listed, and the exit status is 1.
Images that repeat another one pixel for pixel, and texts that repeat another word for word, are
counted and, if they stand in two splits, listed: training on one and testing on the other would
flatter the result.
"""

import argparse
import dataclasses
import functools
import hashlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.datasets import images, progress, sources, tables
from vlmo_jax.datasets.records import BARE_IMAGES, Record, RecordKind, TextRecord


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
        content: digest of its pixels or its text, None if they could not be read.
        problem: what is wrong with it, "" if nothing.
    """

    name: str
    record_id: str | None
    content: bytes | None
    problem: str


def check_dataset(source: str, *, num_threads: int | None = None) -> dict[str, SplitCheck]:
    """Reads every record of a data set of any kind, and decodes every image.

    Args:
        source: as in `sources.open_records`.
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
        check_record = functools.partial(_check_record, kind, records)
        for finding in progress.map_in_order(
            check_record, range(len(records)), unit=" records", num_threads=num_threads
        ):
            problem = finding.problem or (
                "its id is that of an earlier record" if finding.record_id in ids else ""
            )
            if problem:
                check.broken.append((finding.name, problem))
            if finding.record_id is not None:
                ids.add(finding.record_id)
            if finding.content is not None:
                first = first_with_content.setdefault(finding.content, (split, finding.name))
                if first != (split, finding.name):
                    check.repeats.append((finding.name, first))
    return checks


def _check_record(kind: RecordKind, records: Sequence, index: int) -> _Finding:
    try:
        record = records[index]
    except sources.BrokenRecordError as error:
        return _Finding(f"record {index}", None, None, str(error))
    record_id = getattr(record, kind.id_field)
    try:
        pixels = [_digest_of_image(getattr(record, name)) for name in kind.image_fields]
    except ValueError as error:
        problem = f"its image cannot be decoded: {error}"
        return _Finding(record_id, record_id, None, problem)
    text = record.text.encode("utf-8") if isinstance(record, TextRecord) else None
    content = b"".join(pixels) if text is None else _digest(text)
    return _Finding(record_id, record_id, content or None, _problem_of_texts(kind, record))


def _digest(data: bytes, salt: bytes = b"") -> bytes:
    return hashlib.blake2b(data, digest_size=16, salt=salt).digest()


def _digest_of_image(data: bytes) -> bytes:
    image = images.decode_image(data)
    return _digest(image.tobytes(), salt=b"%dx%d" % image.size)


def _problem_of_texts(kind: RecordKind, record: Any) -> str:
    """What is wrong with a record's texts, "" if nothing or if its kind has no rule for them."""
    if isinstance(record, TextRecord):
        return "" if record.text.strip() else "it is blank"
    if (
        not isinstance(record, Record)
        or kind is BARE_IMAGES
        or record.texts
        and all(map(str.strip, record.texts))
    ):
        return ""
    return "it has a blank caption" if record.texts else "it has no caption"


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
            f"repeated: {split}: {name} is {first[1]} of {first[0]}" for name, first in elsewhere
        ]
    table = tables.format_table(
        ("split", "records", "broken", "repeated", "of another split"), rows
    )
    return "\n".join([*lines, table])


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
        "source",
        metavar="DIR",
        help="folder of a data set, or the name of one that comes with the package",
    )
    args = parser.parse_args(argv)
    try:
        checks = check_dataset(args.source)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(format_checks(checks))
    if any(check.broken for check in checks.values()):
        sys.exit(1)
    print(f"All of {args.source} can be read.")


if __name__ == "__main__":
    main()
