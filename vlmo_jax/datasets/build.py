"""Makes a data set of a folder of images and a captions file: python -m vlmo_jax.datasets.build SRC
OUT

SRC is searched for images, subfolders included. The captions file is the one *.jsonl, *.csv or
*.tsv (else *.ndjson, *.json or *.txt) at the top of SRC unless --captions names another. In JSONL a
line reads {"image": "cats/1.jpg", "text": "a cat on a mat"}, or "texts" with a list, and maybe
"keywords" (a list, or a string with commas) and "split"; CSV and TSV have the same as columns with
a header line. Other usual names do too (file_name, path, caption, captions, sentence, caption_1,
caption_2...), rows about the same image are put together. JSON may be a list of such objects,
COCO's {"images": [...], "annotations": [...]} or {"cats/1.jpg": ["a cat on a mat"]}; a table of two
columns needs no header. Without a captions file, 1.txt beside 1.jpg holds its captions, one a line.
Of a folder of images alone, or with --no_captions, comes a data set for stage 1 and visual
tokenizers.

An image may be called by another path than it has in SRC: by its name alone, as on another machine,
without its ending. What fits just one file is taken, and counted in the report.

Image files are taken over byte for byte after each was decoded once. Broken and missing images and
images without a caption are left out, counted and listed in OUT/left_out.tsv; more of them than
--max_broken end it, and nothing is left at OUT.

With --format=NAME, SRC is the download of one of the known data sets, see --formats.
"""

import argparse
import dataclasses
import functools
import pathlib
import sys
from collections.abc import Mapping, Sequence

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets import progress, records, writer
from vlmo_jax.datasets.building import command
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.left_out import NAME as LEFT_OUT
from vlmo_jax.datasets.left_out import left_out_table, summarize_left_out
from vlmo_jax.datasets.readers.folder import FolderReader
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError
from vlmo_jax.datasets.splits import parse_splits


@dataclasses.dataclass(frozen=True)
class BuildReport:
    """What became of the images.

    Attributes:
        counts: {split: images written}.
        left_out: {image that the captions file names: why it was left out}.
        blank_captions: number of captions of nothing but white space, which were dropped.
        without_captions: number of image files of the folder that the captions file does not name.
        notes: lines about what was read in another way than the captions file says.
    """

    counts: dict[str, int]
    left_out: dict[str, str]
    blank_captions: int
    without_captions: int
    notes: tuple[str, ...] = ()


def build_dataset(
    source: pathlib.Path,
    out: pathlib.Path,
    *,
    captions_file: pathlib.Path | None = None,
    with_captions: bool = True,
    splits: str | Mapping[str, float] | None = None,
    seed: int = 0,
    max_broken: float = 0.01,
    shard_bytes: int = writer.SHARD_BYTES,
    overwrite: bool = False,
    num_threads: int | None = None,
) -> BuildReport:
    """Builds a data set of the images that a captions file speaks of, in its order.

    Args:
        source: folder of images.
        out: where the data set goes.
        captions_file: as `captions.read_captions` takes it, None for the one in `source`, or where
            there is none for the text files beside the images.
        with_captions: False takes all images and no captions, as for a folder of images alone.
        splits: one split for all images, or {split: share of the images} with shares that sum to 1,
            drawn at random; None for the splits of the captions file, "train" where it names none.
        seed: of the draw.
        max_broken: largest share of the images in [0, 1] that may be left out.
        shard_bytes: size of a shard.
        overwrite: replace a data set that is already there.
        num_threads: threads that read and decode, None for one a core.

    Returns:
        What was written and what was left out.

    Raises:
        FileNotFoundError, FileExistsError: a file or folder is not there, or is in the way.
        ValueError: the captions file cannot be used, too many images are broken, or a split is left
            with none.
    """
    reader = FolderReader(
        source,
        captions_file=captions_file,
        with_captions=with_captions,
        splits=splits,
        seed=seed,
    )
    reader.read()
    dataset = writer.DatasetWriter(
        out,
        kind=reader.kind,
        description=reader.description,
        shard_bytes=shard_bytes,
        overwrite=overwrite,
    )
    entries = list(reader.entries())
    left_out = reader.left_out()
    counts = dict.fromkeys(reader.counts(), 0)
    _refuse_broken(left_out, reader.total, max_broken)
    opened = progress.map_in_order(
        functools.partial(_load, reader), entries, num_threads=num_threads
    )
    with dataset:
        for entry, record, problem in opened:
            if record is None:
                left_out[entry.record_id] = problem
                _refuse_broken(left_out, reader.total, max_broken)
                continue
            dataset.write(entry.split, record)
            counts[entry.split] += 1
        _refuse_empty(left_out, counts)
        if left_out:
            dataset.add_file(LEFT_OUT, left_out_table(left_out))
    return BuildReport(
        counts, left_out, reader.blank_captions, reader.without_captions, reader.notes
    )


def _load(reader: FolderReader, entry: Entry) -> tuple[Entry, records.Record | None, str]:
    """Returns the entry, its record, and why there is none, "" if there is."""
    try:
        return entry, reader.load(entry), ""
    except LeftOutError as error:
        return entry, None, str(error)


def _refuse_broken(left_out: Mapping[str, str], total: int, max_broken: float) -> None:
    if len(left_out) > max_broken * total:
        raise DataError(
            f"{len(left_out)} of {total} images cannot be used so far, more than --max_broken"
            f" {max_broken:.2%}; nothing was written.\n{summarize_left_out(left_out)}"
        )


def _refuse_empty(left_out: Mapping[str, str], counts: Mapping[str, int]) -> None:
    empty = [split for split, count in counts.items() if not count]
    if empty:
        raise DataError(
            f"no image is left for split {', '.join(empty)}; nothing was written.\n"
            f"{summarize_left_out(left_out)}"
        )


@told_in_one_line()
def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line, builds, and says what was written and what to do next."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        prog=command.PROGRAM,
        description=command.documentation_of(argv) or __doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", type=user_path, metavar="SRC", help="folder of images, or of a download"
    )
    parser.add_argument(
        "out", type=user_path, metavar="OUT", help="folder to write the data set to"
    )
    parser.add_argument(
        "--max_broken",
        type=float,
        default=0.01,
        metavar="SHARE",
        help=(
            "largest share of images that may be broken, missing or without a caption (default:"
            " 0.01)"
        ),
    )
    parser.add_argument(
        "--shard_mb",
        type=int,
        default=writer.SHARD_BYTES // 2**20,
        help="size of a shard in MiB (default: 256)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a data set that is already at OUT"
    )
    _add_folder_arguments(parser)
    command.add_arguments(parser)
    args = parser.parse_args(argv)
    command.check_arguments(args, folder_only=("captions", "no_captions", "split", "seed"))
    if args.format is not None:
        command.build(args)
    else:
        _build(args)


def _add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("without --format, for a folder of images")
    group.add_argument(
        "--captions",
        type=user_path,
        metavar="FILE",
        help="the captions file (default: the one in SRC)",
    )
    group.add_argument(
        "--no_captions",
        action="store_true",
        default=None,
        help="take all images of SRC and no captions: for stage 1 and visual tokenizers",
    )
    group.add_argument(
        "--split",
        help=(
            "NAME for all images, or shares such as train=0.9,validation=0.1 drawn at random; "
            "comes before the splits of the captions file (default: those, else train)"
        ),
    )
    group.add_argument("--seed", type=int, help="seed of that draw (default: 0)")


def _build(args: argparse.Namespace) -> None:
    try:
        report = build_dataset(
            args.source,
            args.out,
            captions_file=args.captions,
            with_captions=not args.no_captions,
            splits=args.split and parse_splits(args.split),
            seed=args.seed or 0,
            max_broken=args.max_broken,
            shard_bytes=args.shard_mb * 2**20,
            overwrite=args.overwrite,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")
    for note in report.notes:
        print(f"Note: {note}")
    if report.left_out:
        print(f"Left out {len(report.left_out)} images, all listed in {args.out / LEFT_OUT}:")
        print(summarize_left_out(report.left_out))
    if report.blank_captions or report.without_captions:
        print(
            f"Dropped {report.blank_captions} blank captions; {report.without_captions} images of"
            " the folder have no caption."
        )
    sizes = ", ".join(f"{split} {count}" for split, count in report.counts.items())
    print(
        f"Wrote {sum(report.counts.values())} images ({sizes}) to {args.out}. Next: python -m"
        f" vlmo_jax.datasets.stats {args.out}, and to train on it --config.data.source={args.out}"
    )


if __name__ == "__main__":
    main()
