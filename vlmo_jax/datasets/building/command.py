"""What `python -m vlmo_jax.datasets.build` does with --format."""

import argparse
import functools
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmo_jax.datasets import left_out as left_out_lib
from vlmo_jax.datasets import readers, tables
from vlmo_jax.datasets.building import beam, formats, processes
from vlmo_jax.datasets.errors import DataError, MissingDataError

PROGRAM = "python -m vlmo_jax.datasets.build"
_FORMAT_ONLY = (
    "option", "workers", "unit_records", "engine", "beam_options", "restart",
)  # fmt: skip


def documentation_of(argv: Sequence[str]) -> str | None:
    """Returns what is said about the format that a command line names, None where it names none.

    Raises:
        DataError: there is no such format.
    """
    parser = argparse.ArgumentParser(prog=PROGRAM, add_help=False, allow_abbrev=False)
    parser.add_argument("--format", metavar="NAME")
    name = parser.parse_known_args(argv)[0].format
    return None if name is None else readers.documentation(name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of formats to the command's."""
    group = parser.add_argument_group("with --format, for the download of a known data set")
    group.add_argument("--formats", action=_ListFormats, nargs=0, help="list the formats, and end")
    group.add_argument(
        "--format",
        metavar="NAME",
        help="one of --formats, or package.module:Class of your own reader; with --help says how"
        " the folder must look",
    )
    group.add_argument(
        "--option",
        action="append",
        metavar="NAME=VALUE",
        help="an option of the reader, as its --help says; may be given several times",
    )
    group.add_argument("--workers", type=int, help="processes (default: one a core)")
    group.add_argument(
        "--unit_records",
        type=int,
        metavar="N",
        help="records that a process finishes at a time, and that a kill loses (default:"
        f" {formats.UNIT_RECORDS})",
    )
    group.add_argument(
        "--engine",
        choices=("processes", "beam"),
        help="what makes the records: processes of this machine (default), or Apache Beam",
    )
    group.add_argument(
        "--beam_options",
        metavar="FLAGS",
        help='of the pipeline, such as "--runner=FlinkRunner --flink_master=host:8081" (default:'
        " run on this machine)",
    )
    group.add_argument(
        "--restart",
        action="store_true",
        default=None,
        help="forget what a stopped build did, and begin anew",
    )


class _ListFormats(argparse.Action):
    """Prints the table of formats and ends the command, as --help does."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        rows = [(name, form.about) for name, form in readers.FORMATS.items()]
        width = max((len(name) for name, _ in rows), default=0)
        print("\n".join(f"{name.ljust(width)}  {about}" for name, about in rows))
        parser.exit()


def check_arguments(args: argparse.Namespace, folder_only: Sequence[str]) -> None:
    """Refuses flags that do not go together.

    Args:
        args: of the command.
        folder_only: names of those that go with a folder of images alone, None where not given.

    Raises:
        DataError: a flag of the one road was given on the other, or a number is out of range.
    """
    with_format = args.format is not None
    wrong = folder_only if with_format else _FORMAT_ONLY
    given = next((name for name in wrong if getattr(args, name) is not None), None)
    if given and with_format:
        raise DataError(f"--{given} goes with a folder of images, not with --format; leave it out")
    if given:
        raise DataError(f"--{given} goes with --format=NAME (see --formats); leave it out")
    for name in ("workers", "unit_records", "shard_mb"):
        number = getattr(args, name)
        if number is not None and number < 1:
            raise DataError(f"--{name}={number} must be 1 or more")
    if not 0 <= args.max_broken <= 1:
        raise DataError(f"--max_broken={args.max_broken} must be a share, from 0 to 1")
    if args.workers is not None and args.engine == "beam":
        raise DataError("--workers goes with --engine=processes; give Beam's own --beam_options")
    if args.beam_options is not None and args.engine != "beam":
        raise DataError("--beam_options goes with --engine=beam; give both")


def build(args: argparse.Namespace) -> None:
    """Builds the data set of a format and says what was written.

    Args:
        args: of the command.

    Raises:
        UserError: as `formats.build_format`.
    """
    source = args.source.absolute()
    if not source.exists():
        raise MissingDataError(f"{source} is not there; name the folder of the download")
    options = _options(args.option or ())
    engine = _engine(args)
    given = "".join(f" --option={shlex.quote(f'{k}={v}')}" for k, v in options.items())
    report = formats.build_format(
        readers.make_reader(args.format, source, options),
        source,
        args.out,
        asked={
            "format": args.format,
            "source": str(source),
            "options": options,
            "command": f"{PROGRAM} {shlex.quote(str(source))}"
            f" {shlex.quote(args.out.name)} --format={args.format}{given}",
        },
        engine=engine,
        unit_records=args.unit_records or formats.UNIT_RECORDS,
        shard_bytes=args.shard_mb * 2**20,
        max_broken=args.max_broken,
        overwrite=args.overwrite,
        restart=bool(args.restart),
    )
    _print(report, args.out)


def _engine(args: argparse.Namespace) -> formats.Engine:
    if args.engine == "beam":
        beam.import_beam()
        return functools.partial(beam.build_in_beam, options=args.beam_options or "")
    return functools.partial(processes.build_in_processes, workers=args.workers)


def _print(report: formats.FormatReport, out: Path) -> None:
    for note in report.notes:
        print(f"Note: {note}")
    print(_left_out_lines(report.left_out, out))
    print(format_counts(report.manifest["splits"], len(report.left_out)))
    sizes = {split: facts["records"] for split, facts in report.manifest["splits"].items()}
    listed = ", ".join(f"{split} {count:,}" for split, count in sizes.items())
    print(
        f"\nWrote {sum(sizes.values()):,} records ({listed}) to {out}. Next: python -m"
        f" vlmo_jax.datasets.check {out}, and to use it --config.data.source={out}"
    )
    if report.manifest["license"]:
        print(f"License: {report.manifest['license']}")


def _options(given: Sequence[str]) -> dict[str, str]:
    for pair in given:
        if "=" not in pair:
            raise DataError(f"--option {pair} has no value; give --option NAME=VALUE")
    return dict(pair.split("=", 1) for pair in given)


def _left_out_lines(left_out: Mapping[str, str], out: Path) -> str:
    if not left_out:
        return "Nothing was left out."
    return (
        f"Left out {len(left_out):,} of what was found, all listed in {out / left_out_lib.NAME}:\n"
        + left_out_lib.summarize_left_out(left_out)
    )


def format_counts(splits: Mapping[str, Mapping[str, Any]], left_out: int) -> str:
    """Returns a table of what was found beside what was published, and in words where they differ.

    Args:
        splits: as in the manifest.
        left_out: how much of what was found gave no record.
    """
    rows, differences = [], []
    for split, facts in splits.items():
        found, published = facts["found"], facts["published"]
        rows.append((split, "records written", facts["records"], "-"))
        for what in dict.fromkeys([*published, *found]):
            rows.append((split, what, found.get(what, "-"), published.get(what, "-")))
            if what in published and found.get(what) != published[what]:
                differences.append(
                    f"{split} has {_number(found.get(what))} {what}, published are"
                    f" {_number(published[what])}"
                )
    lines = [tables.format_table(("split", "what", "found", "published"), rows)]
    if differences:
        lines += ["Differs from what was published:", *(f"  {line}" for line in differences)]
    elif any(facts["published"] for facts in splits.values()):
        lines.append(
            f"What was found is what was published, but {left_out:,} of it could not be used."
            if left_out
            else "All counts are the published ones."
        )
    return "\n".join(lines)


def _number(count: int | None) -> str:
    return f"{count:,}" if count is not None else "no"
