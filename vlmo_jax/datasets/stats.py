"""Says what is in a data set: python -m vlmo_jax.datasets.stats DIR [--tokenizer P]

For each split: images, formats and sizes, captions an image, words a caption and keywords an image,
a few examples; with a tokenizer also tokens a caption and the share of captions that are cut at
--text_length tokens ([CLS] and [SEP] included). Of data sets of texts: texts, characters, words and
tokens, and the share that is longer than --text_length and comes in windows. Images are not
decoded, only their headers are read; `python -m vlmo_jax.datasets.check` decodes them.
"""

import argparse
import collections
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.datasets import images, progress, records, sources, tables
from vlmo_jax.input.text import tokenizer as tokenizer_lib


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
    source: sources.RecordSource,
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
        image_format, size = _read_header(record.image)
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
    source: sources.RecordSource,
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


def _unknown_share(stats: SplitStats | TextStats) -> str:
    """Unknown tokens of all, special ones around texts not counted; a cure where they are many."""
    assert stats.tokens is not None
    share = stats.unknown / max(1, int(stats.tokens.sum()) - 2 * len(stats.tokens))
    return f"{share:.2%}"


def _warnings(stats: Mapping[str, SplitStats | TextStats]) -> list[str]:
    lines = []
    for split, s in stats.items():
        if s.tokens is None or s.unknown <= 0.05 * (s.tokens.sum() - 2 * len(s.tokens)):
            continue
        lines.append(
            f"WARNING: the tokenizer cannot spell {_unknown_share(s)} of the tokens of {split};"
            " train one on these texts with: python -m vlmo_jax.input.train_tokenizer"
        )
    return [*lines, ""] if lines else []


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
            _spread(s.characters),
            _spread(s.words),
        ]
        if s.tokens is not None:
            row += [
                int(s.tokens.sum()),
                _spread(s.tokens),
                _unknown_share(s),
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


def _read(source: sources.RecordSource, index: int) -> Any:
    try:
        return source[index]
    except sources.BrokenRecordError:
        return None


def _read_header(data: bytes) -> tuple[str, tuple[int, int] | None]:
    try:
        return images.read_header(data)
    except images.BrokenImageError:
        return "unreadable", None


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
                _spread(s.sizes[:, 0]),
                _spread(s.sizes[:, 1]),
            )
        )
        row = [split, len(s.words), _spread(s.captions), _spread(s.words), _spread(s.keywords)]
        if s.tokens is not None:
            row += [
                _spread(s.tokens),
                _unknown_share(s),
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


def _spread(values: np.ndarray) -> str:
    if not len(values):
        return "-"
    smallest, median, high, largest = (
        np.percentile(values, (0, 50, 95, 100), method="nearest").astype(int).tolist()
    )
    return f"{smallest:,} / {median:,} / {high:,} / {largest:,}"


# For each kind of record how a split is measured, and how the measures are shown.
_MEASURES: dict[str, tuple[Callable, Callable]] = {
    records.IMAGES.marker: (measure_split, format_stats),
    records.BARE_IMAGES.marker: (measure_split, format_stats),
    records.TEXTS.marker: (measure_texts, format_text_stats),
}


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
    args = parser.parse_args(argv)
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
        stats = {split: measure(source, tokenizer) for split, source in opened.items()}
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(form(stats, args.text_length))


if __name__ == "__main__":
    main()
