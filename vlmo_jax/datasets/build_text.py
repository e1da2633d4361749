"""Makes a data set of text files: python -m vlmo_jax.datasets.build_text FILES OUT

FILES are .txt, .txt.gz, .jsonl and .jsonl.gz files in UTF-8, and folders that hold some. In .txt
each line is a document, or with --documents paragraphs what stands between empty lines; in .jsonl
each line is {"text": "a document"}. White space becomes single blanks, and blank documents are
dropped.

Documents longer than --passage_length characters are cut into passages, at the ends of sentences
where possible, which follow each other in the data set: nothing is lost, and reading a place in a
book does not read the book. Choose it so that a passage fills about one training sequence: 1000
characters are some 200 tokens of BERT's.

With shares such as --split train=0.99,validation=0.01 whole documents are drawn, the same ones each
time, and a document that comes twice goes to one split. A file that cannot be read ends it, and
nothing is left at OUT.
"""

import argparse
import dataclasses
import hashlib
import itertools
import pathlib
import sys
from collections.abc import Mapping, Sequence

import tqdm

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets import records, writer
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers import text_files
from vlmo_jax.datasets.splits import parse_splits

PASSAGE_LENGTH = 1000


@dataclasses.dataclass
class TextReport:
    """What became of the documents.

    Attributes:
        counts: {split: passages written}.
        documents: documents read, blank ones not counted.
        cut: how many of them were cut into passages.
        blank: documents of nothing but white space, which were dropped.
        characters: in all passages.
    """

    counts: dict[str, int]
    documents: int = 0
    cut: int = 0
    blank: int = 0
    characters: int = 0


def build_text(
    paths: Sequence[pathlib.Path],
    out: pathlib.Path,
    *,
    unit: str = "lines",
    splits: str | Mapping[str, float] | None = None,
    seed: int = 0,
    passage_length: int = PASSAGE_LENGTH,
    shard_bytes: int = writer.SHARD_BYTES,
    overwrite: bool = False,
) -> TextReport:
    """Builds a data set of the documents of text files, in their order.

    Args:
        paths: files and folders, as in `text_files.find_text_files`.
        out: where the data set goes.
        unit: what is a document in .txt files, one of `text_files.UNITS`.
        splits: one split for all documents, or {split: share of the documents} with shares that sum
            to 1; None for "train".
        seed: of the draw.
        passage_length: the most characters of a record; longer documents are cut.
        shard_bytes: size of a shard.
        overwrite: replace a data set that is already there.

    Returns:
        What was written.

    Raises:
        FileNotFoundError, FileExistsError: a file or folder is not there, or is in the way.
        ValueError: an argument is impossible, a file cannot be read, or a split is left with no
            text.
    """
    if unit not in text_files.UNITS:
        raise DataError(f"--documents {unit} is unknown; use one of {', '.join(text_files.UNITS)}")
    if passage_length < 100:
        raise DataError(
            f"--passage_length {passage_length} leaves no room for a sentence; use at least 100"
            " characters"
        )
    files = text_files.find_text_files(paths)
    shares = splits if isinstance(splits, Mapping) else {splits or "train": 1.0}
    report = TextReport(dict.fromkeys(shares, 0))
    dataset = writer.DatasetWriter(
        out,
        kind=records.TEXTS,
        description=f"Texts of {', '.join(path.name for path in paths)}.",
        shard_bytes=shard_bytes,
        overwrite=overwrite,
    )
    done, size = 0, sum(path.stat().st_size for path in files.values())
    with dataset, tqdm.tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar:
        for name, path in files.items():
            with open(path, "rb") as file:
                for line, document in text_files.read_documents(path, file, unit):
                    _write(
                        dataset,
                        report,
                        f"{name}:{line}",
                        document,
                        split_of(document, shares, seed),
                        passage_length,
                    )
                    bar.update(done + file.tell() - bar.n)
            done += path.stat().st_size
        empty = [split for split, count in report.counts.items() if not count]
        if empty:
            raise DataError(
                f"{report.documents} documents with text in {', '.join(map(str, paths))} leave none"
                f" for split {', '.join(empty)}; nothing was written"
            )
    return report


def split_of(document: str, shares: Mapping[str, float], seed: int) -> str:
    """Draws the split of a document, the same for the same text.

    Args:
        document: its text.
        shares: {split: share} that sum to 1.
        seed: of the draw.
    """
    digest = hashlib.blake2b(
        document.encode("utf-8"), digest_size=8, salt=seed.to_bytes(16, "little")
    ).digest()
    place = int.from_bytes(digest, "little") / 2**64
    ends = itertools.accumulate(shares.values())
    return next(
        (split for split, end in zip(shares, ends, strict=True) if place < end), list(shares)[-1]
    )


def _write(
    dataset: writer.DatasetWriter,
    report: TextReport,
    text_id: str,
    document: str,
    split: str,
    length: int,
) -> None:
    if not document:
        report.blank += 1
        return
    passages = text_files.cut_passages(document, length)
    for number, passage in enumerate(passages):
        dataset.write(
            split, records.TextRecord(passage, f"{text_id}.{number}" if number else text_id)
        )
    report.counts[split] += len(passages)
    report.documents += 1
    report.cut += len(passages) > 1
    report.characters += sum(map(len, passages))


@told_in_one_line()
def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line, builds, and says what was written and what to do next."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.datasets.build_text",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files",
        type=user_path,
        nargs="+",
        metavar="FILES",
        help="text files, and folders of some",
    )
    parser.add_argument(
        "out", type=user_path, metavar="OUT", help="folder to write the data set to"
    )
    parser.add_argument(
        "--documents",
        choices=text_files.UNITS,
        default="lines",
        help="what is a document in .txt (default: lines)",
    )
    parser.add_argument(
        "--split",
        help=(
            "NAME for all documents, or shares such as train=0.99,validation=0.01 drawn at random "
            "(default: train)"
        ),
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of that draw (default: 0)")
    parser.add_argument(
        "--passage_length",
        type=int,
        default=PASSAGE_LENGTH,
        metavar="CHARACTERS",
        help=f"longer documents are cut into passages (default: {PASSAGE_LENGTH})",
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
    args = parser.parse_args(argv)
    try:
        report = build_text(
            args.files,
            args.out,
            unit=args.documents,
            splits=args.split and parse_splits(args.split),
            seed=args.seed,
            passage_length=args.passage_length,
            shard_bytes=args.shard_mb * 2**20,
            overwrite=args.overwrite,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")
    sizes = ", ".join(f"{split} {count:,}" for split, count in report.counts.items())
    print(
        f"Wrote {sum(report.counts.values()):,} passages ({sizes}) of {report.documents:,}"
        f" documents, {report.characters:,} characters, to {args.out}. {report.cut:,} long"
        f" documents were cut into passages, {report.blank:,} blank ones dropped. Next, train on it"
        f" with --config=configs/stage2.py --config.data.source={args.out}"
    )


if __name__ == "__main__":
    main()
