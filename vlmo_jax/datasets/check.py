"""Reads and decodes all of a data set and reports what is wrong: python -m vlmo_jax.datasets.check
DIR

Broken is a record that cannot be read, an image that cannot be decoded, a record with a blank
caption or none, and an id that two records have: each is listed, and the exit status is 1. Images
that repeat another one pixel for pixel, and texts that repeat another word for word, are counted
and, if they stand in two splits, listed: training on one and testing on the other would flatter the
result.
"""

import argparse
import dataclasses
import functools
import hashlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from vlmo_jax.datasets import images, progress, sources, tables
from vlmo_jax.datasets.records import TextRecord


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
    """What was found in a record: a name for it, and its id and a digest of its pixels or its text
    if they could be read.
    """

    name: str
    image_id: str | None
    content: bytes | None
    problem: str


def check_dataset(source: str, *, num_threads: int | None = None) -> dict[str, SplitCheck]:
    """Reads every record of a data set of images or texts, and decodes every image.

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
    opened = {split: sources.open_records(source, split) for split in sources.split_sizes(source)}
    for split, records in opened.items():
        check = checks[split] = SplitCheck(len(records))
        check_record = functools.partial(_check_record, records)
        for finding in progress.map_in_order(
            check_record, range(len(records)), unit=" records", num_threads=num_threads
        ):
            problem = finding.problem or (
                "its id is that of an earlier record" if finding.image_id in ids else ""
            )
            if problem:
                check.broken.append((finding.name, problem))
            if finding.image_id is not None:
                ids.add(finding.image_id)
            if finding.content is not None:
                first = first_with_content.setdefault(finding.content, (split, finding.name))
                if first != (split, finding.name):
                    check.repeats.append((finding.name, first))
    return checks


def _check_record(records: sources.RecordSource, index: int) -> _Finding:
    try:
        record = records[index]
    except sources.BrokenRecordError as error:
        return _Finding(f"record {index}", None, None, str(error))
    if isinstance(record, TextRecord):
        problem = "" if record.text.strip() else "it is blank"
        return _Finding(
            record.text_id,
            record.text_id,
            hashlib.blake2b(record.text.encode("utf-8"), digest_size=16).digest(),
            problem,
        )
    try:
        image = images.decode_image(record.image)
    except ValueError as error:
        return _Finding(
            record.image_id, record.image_id, None, f"its image cannot be decoded: {error}"
        )
    problem = ""
    if not record.texts or not all(text.strip() for text in record.texts):
        problem = "it has a blank caption" if record.texts else "it has no caption"
    digest = hashlib.blake2b(image.tobytes(), digest_size=16, salt=b"%dx%d" % image.size)
    return _Finding(record.image_id, record.image_id, digest.digest(), problem)


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
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(format_checks(checks))
    if any(check.broken for check in checks.values()):
        sys.exit(1)
    print(f"All of {args.source} can be read.")


if __name__ == "__main__":
    main()
