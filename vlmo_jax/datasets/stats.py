"""Says what is in a data set: python -m vlmo_jax.datasets.stats DIR [--tokenizer P]

For each split: images, formats and sizes, captions an image, words a caption and keywords an image,
a few examples; with a tokenizer also tokens a caption and the share of captions that are cut at
--text_length tokens ([CLS] and [SEP] included). Of data sets of texts: texts, characters, words and
tokens, and the share that is longer than --text_length and comes in windows. Of questions: types of
answers, the most frequent ones, and the share that the official rule's vocabulary has; of
statements: how many are true, and how many are consistent together. Images are not decoded, only
their headers are read, `python -m vlmo_jax.datasets.check` decodes them; but --picture draws some
records of each split.
"""

import argparse
import collections
import functools
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.folders import require_writable
from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets import progress, record_sources, records, sources, tables
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.measures.common import read_header, share_unknown, spelling_warnings, spread
from vlmo_jax.datasets.measures.questions import format_question_stats, measure_questions
from vlmo_jax.datasets.measures.regions import format_region_stats, measure_regions
from vlmo_jax.datasets.measures.samples import sample_pictures
from vlmo_jax.datasets.measures.statements import format_statement_stats, measure_statements
from vlmo_jax.input.text import tokenizer as tokenizer_lib
from vlmo_jax.reports.pages.records import records_page


class SplitStats(NamedTuple):
    """Measures of a split, a row an image or a caption; records that cannot be read are left out.

    Attributes:
        formats: {image format as Pillow names it, "unreadable" for broken headers and formats that
            training cannot read: number of images}.
        bytes: int64 [images], size of the image file.
        sizes: int64 [images with a readable header, 2], width and height in pixels.
        captions: int64 [images], number of captions.
        keywords: int64 [images], number of keywords.
        words: int64 [captions], number of words.
        tokens: int64 [captions] with [CLS] and [SEP], None without a tokenizer.
        broken: number of records that cannot be read.
        examples: the first records.
        unknown: number of tokens that stand for letters which the tokenizer does not have.
    """

    formats: collections.Counter[str]
    bytes: np.ndarray
    sizes: np.ndarray
    captions: np.ndarray
    keywords: np.ndarray
    words: np.ndarray
    tokens: np.ndarray | None
    broken: int
    examples: list[records.Record]
    unknown: int = 0


def measure_split(
    source: record_sources.RecordSource,
    tokenizer: tokenizer_lib.Tokenizer | None = None,
    num_examples: int = 3,
) -> SplitStats:
    """Reads all records of a split and measures them.

    Args:
        source: the split.
        tokenizer: for the number of tokens, or None.
        num_examples: number of records to keep as examples.

    Returns:
        The measures.
    """
    formats: collections.Counter[str] = collections.Counter()
    lists: dict[str, list] = {
        name: [] for name in ("bytes", "sizes", "captions", "keywords", "words", "tokens")
    }
    examples: list[records.Record] = []
    broken = unknown = 0
    for record in progress.map_in_order(
        functools.partial(_read, source), range(len(source)), unit=" records"
    ):
        if record is None:
            broken += 1
            continue
        if len(examples) < num_examples:
            examples.append(record)
        image_format, size = read_header(record.image)
        formats[image_format] += 1
        lists["sizes"] += [size] if size else []
        lists["bytes"].append(len(record.image))
        lists["captions"].append(len(record.texts))
        lists["keywords"].append(len(record.keywords))
        lists["words"] += [len(text.split()) for text in record.texts]
        if tokenizer is not None:
            encoded = [tokenizer.encode(text).ids for text in record.texts]
            lists["tokens"] += [len(ids) + 2 for ids in encoded]
            unknown += sum(_count_unknown(tokenizer, ids) for ids in encoded)
    arrays = {name: np.array(values, np.int64) for name, values in lists.items()}
    arrays["sizes"] = arrays["sizes"].reshape(-1, 2)
    tokens = arrays.pop("tokens")
    return SplitStats(
        formats=formats,
        broken=broken,
        examples=examples,
        tokens=None if tokenizer is None else tokens,
        unknown=unknown,
        **arrays,
    )


class TextStats(NamedTuple):
    """Measures of a split of texts, a row a text; records that cannot be read are left out.

    Attributes:
        characters, words: int64 [texts].
        tokens: int64 [texts] with [CLS] and [SEP], None without a tokenizer.
        broken: number of records that cannot be read.
        examples: the first records.
        unknown: as in `SplitStats`.
    """

    characters: np.ndarray
    words: np.ndarray
    tokens: np.ndarray | None
    broken: int
    examples: list[records.TextRecord]
    unknown: int = 0


def measure_texts(
    source: record_sources.RecordSource,
    tokenizer: tokenizer_lib.Tokenizer | None = None,
    num_examples: int = 3,
) -> TextStats:
    """Reads all texts of a split and measures them; arguments as of `measure_split`."""
    read = list(
        progress.map_in_order(functools.partial(_read, source), range(len(source)), unit=" records")
    )
    texts = [record.text for record in read if record is not None]
    count = lambda measure: np.array([measure(text) for text in texts], np.int64)
    encoded = [] if tokenizer is None else [tokenizer.encode(text).ids for text in texts]
    tokens = None if tokenizer is None else np.array([len(ids) + 2 for ids in encoded], np.int64)
    unknown = 0 if tokenizer is None else sum(_count_unknown(tokenizer, ids) for ids in encoded)
    examples = [record for record in read if record is not None][:num_examples]
    return TextStats(
        count(len),
        count(lambda text: len(text.split())),
        tokens,
        len(read) - len(texts),
        examples,
        unknown,
    )


def _count_unknown(tokenizer: tokenizer_lib.Tokenizer, ids: Sequence[int]) -> int:
    names = tokenizer.special_tokens
    return sum(names.get(i) == tokenizer_lib.BERT_TOKENS[1] for i in ids)


def _warnings(stats: Mapping[str, SplitStats | TextStats]) -> list[str]:
    return spelling_warnings({split: (s.tokens, s.unknown) for split, s in stats.items()})


def format_text_stats(stats: dict[str, TextStats], text_length: int) -> str:
    """Returns the measures as text; arguments as of `format_stats`."""
    header = ["split", "texts", "unreadable", "characters", "characters a text", "words a text"]
    header += (
        ["tokens", "tokens a text", "unknown", f"over {text_length}"]
        if any(s.tokens is not None for s in stats.values())
        else []
    )
    rows = []
    for split, s in stats.items():
        row = [
            split,
            len(s.characters),
            s.broken,
            int(s.characters.sum()),
            spread(s.characters),
            spread(s.words),
        ]
        if s.tokens is not None:
            row += [
                int(s.tokens.sum()),
                spread(s.tokens),
                share_unknown(s.tokens, s.unknown),
                f"{np.mean(s.tokens > text_length) if len(s.tokens) else 0:.2%}",
            ]
        rows.append(row)
    examples = [
        f"{split}: {record.text_id}: {record.text[:100]}"
        for split, s in stats.items()
        for record in s.examples
    ]
    return "\n".join(
        [
            "Spreads read: smallest / median / 95 % / largest.",
            "",
            tables.format_table(header, rows),
            "",
            *_warnings(stats),
            *examples,
        ]
    )


def _read(source: record_sources.RecordSource, index: int) -> Any:
    try:
        return source[index]
    except record_sources.BrokenRecordError:
        return None


def format_stats(stats: dict[str, SplitStats], text_length: int) -> str:
    """Returns the measures as text.

    Args:
        stats: {split: its measures}.
        text_length: number of tokens at which captions are cut.
    """
    image_rows, caption_rows, examples = [], [], []
    for split, s in stats.items():
        formats = ", ".join(f"{name} {count:,}" for name, count in s.formats.most_common())
        image_rows.append(
            (
                split,
                len(s.bytes),
                s.broken,
                f"{s.bytes.sum() / 2**20:,.1f}",
                formats,
                spread(s.sizes[:, 0]),
                spread(s.sizes[:, 1]),
            )
        )
        row = [split, len(s.words), spread(s.captions), spread(s.words), spread(s.keywords)]
        if s.tokens is not None:
            row += [
                spread(s.tokens),
                share_unknown(s.tokens, s.unknown),
                f"{np.mean(s.tokens > text_length) if len(s.tokens) else 0:.2%}",
            ]
        caption_rows.append(row)
        examples += [
            f"{split}: {record.image_id}: {' | '.join(record.texts)[:100]}" for record in s.examples
        ]
    caption_header = [
        "split",
        "captions",
        "captions an image",
        "words a caption",
        "keywords an image",
    ]
    if any(s.tokens is not None for s in stats.values()):
        caption_header += ["tokens a caption", "unknown", f"cut at {text_length}"]
    return "\n".join(
        [
            "Spreads read: smallest / median / 95 % / largest.",
            "",
            tables.format_table(
                ("split", "images", "unreadable", "MiB", "formats", "width", "height"), image_rows
            ),
            "",
            tables.format_table(caption_header, caption_rows),
            "",
            *_warnings(stats),
            *examples,
        ]
    )


def _of_read(measure: Callable) -> Callable:
    """A measure of a source, made of one of the records that were read."""

    def measured(
        source: record_sources.RecordSource, tokenizer: tokenizer_lib.Tokenizer | None = None
    ) -> Any:
        read = functools.partial(_read, source)
        return measure(
            progress.map_in_order(read, range(len(source)), unit=" records"),
            tokenizer and functools.partial(_count_tokens, tokenizer),
        )

    return measured


def _count_tokens(tokenizer: tokenizer_lib.Tokenizer, text: str) -> tuple[int, int]:
    ids = tokenizer.encode(text).ids
    return len(ids) + 2, _count_unknown(tokenizer, ids)


# For each kind of record how a split is measured, and how the measures are shown.
_MEASURES: dict[str, tuple[Callable, Callable]] = {
    records.IMAGES.marker: (measure_split, format_stats),
    records.BARE_IMAGES.marker: (measure_split, format_stats),
    records.TEXTS.marker: (measure_texts, format_text_stats),
    records.QUESTIONS.marker: (_of_read(measure_questions), format_question_stats),
    records.STATEMENTS.marker: (_of_read(measure_statements), format_statement_stats),
    records.REGIONS.marker: (_of_read(measure_regions), format_region_stats),
}


def _draw(
    png: pathlib.Path,
    name: str,
    kind: records.RecordKind,
    opened: Mapping[str, record_sources.RecordSource | record_sources.JoinedSource],
) -> None:
    rows = {
        f"{split}: {len(source):,} records": sample_pictures(kind, source)
        for split, source in opened.items()
    }
    records_page(rows, png, title=f"{name}: {kind.name}")
    print(f"Drew some records of each split to {png}")


@told_in_one_line()
def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line and prints the measures."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.datasets.stats",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        metavar="DIR",
        help="folder of a data set, or the name of one that comes with the package",
    )
    parser.add_argument("--tokenizer", help="a .model or .txt file, or emoji: counts tokens too")
    parser.add_argument(
        "--text_length", type=int, default=40, help="tokens at which a caption is cut (default: 40)"
    )
    parser.add_argument(
        "--picture", type=user_path, metavar="PNG", help="draw some records of each split there"
    )
    args = parser.parse_args(argv)
    if args.picture:
        require_writable(args.picture.absolute().parent)
    try:
        tokenizer = tokenizer_lib.load_tokenizer(args.tokenizer) if args.tokenizer else None
        opened = {
            split: sources.open_records(args.source, split)
            for split in sources.split_sizes(args.source)
        }
        kind = sources.kind_of(args.source)
        if kind.marker not in _MEASURES:
            raise ValueError(f"{args.source} holds {kind.name}, of which there are no statistics")
        measure, form = _MEASURES[kind.marker]
        if args.picture and not kind.image_fields:
            raise DataError(f"{args.source} holds {kind.name}: there is nothing for --picture")
        stats = {split: measure(source, tokenizer) for split, source in opened.items()}
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(form(stats, args.text_length))
    if args.picture:
        _draw(args.picture, args.source, kind, opened)


if __name__ == "__main__":
    main()
