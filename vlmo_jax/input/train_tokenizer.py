"""Trains a SentencePiece tokenizer: python -m vlmo_jax.input.train_tokenizer --corpus F [F ...]
--output P --vocab_size N

A corpus is a text file (a sentence a line, maybe gzipped) or a data set, of which one split is
read: captions and keywords, or texts. It is the name of one that comes with the package, or a
folder made by `vlmo_jax.datasets.build` or `build_text`. The model is a unigram model over
lower-cased text (rule nmt_nfkc_cf) in which [PAD] [UNK] [CLS] [SEP] [MASK] are the ids 0 to 4 and
"▁" starts a word, which is what whole-word masking needs.
"""

import argparse
import gzip
import io
import itertools
import os
import pathlib
import sys
import zlib
from collections.abc import Iterator, Sequence

import sentencepiece

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets import TextRecord, records, sources
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.input.text import tokenizer

_LONGEST_LINE = 2**30  # bytes


def train_tokenizer(
    corpus: Sequence[str],
    output: str,
    vocab_size: int,
    *,
    split: str = "train",
    character_coverage: float = 0.9995,
) -> None:
    """Trains a SentencePiece unigram model and writes it to a file.

    Args:
        corpus: text files and data sets, as the module says.
        output: the ".model" file to write.
        vocab_size: number of tokens, the five special ones included.
        split: the split that is read of each data set.
        character_coverage: share of the corpus' characters that must be in the vocabulary; 1.0
            takes all of them.

    Raises:
        FileNotFoundError: a corpus is neither a file nor a data set.
        ValueError: `output` does not end in .model, or the corpus has too little text for
            `vocab_size`.
    """
    if not output.endswith(".model"):
        raise DataError(
            f"--output {output} must end in .model, by which a SentencePiece tokenizer is known"
        )
    iterators = [_lines(entry, split) for entry in corpus]
    model = io.BytesIO()
    pad, unknown, begin, end, mask = tokenizer.BERT_TOKENS
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=itertools.chain.from_iterable(iterators),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            character_coverage=character_coverage,
            normalization_rule_name="nmt_nfkc_cf",
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            pad_piece=pad,
            unk_piece=unknown,
            bos_piece=begin,
            eos_piece=end,
            control_symbols=[mask],
            # The result depends on the number of threads, so it is fixed whatever the machine.
            num_threads=4,
            minloglevel=2,
            # Longer lines would be left out without a word; none is.
            max_sentence_length=_LONGEST_LINE,
        )
    except RuntimeError as error:
        raise DataError(
            f"no tokenizer with --vocab_size {vocab_size} from {' '.join(corpus)}: {error}"
        ) from error
    path = user_path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(model.getvalue())
    temporary.replace(path)


def _lines(entry: str, split: str) -> Iterator[str]:
    path = sources.source_folder(entry)
    if path.is_file():
        return _file_lines(path)
    if not path.is_dir():
        raise MissingDataError(f"--corpus {entry}: there is no such text file or data set")
    return _texts(sources.open_records(entry, split, [records.IMAGES, records.TEXTS]))


def _file_lines(path: pathlib.Path) -> Iterator[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        try:
            for line in file:
                yield line.strip()
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"--corpus {path} cannot be read as UTF-8 text: {error}") from error


def _texts(source: Sequence) -> Iterator[str]:
    for record in source:
        if isinstance(record, TextRecord):
            yield record.text
            continue
        yield from record.texts
        if record.keywords:
            yield ", ".join(record.keywords)


@told_in_one_line()
def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line, trains, and says what was written."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.input.train_tokenizer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--corpus", nargs="+", required=True, help="text files (.gz too) and data sets"
    )
    parser.add_argument("--output", required=True, help="the .model file to write")
    parser.add_argument("--vocab_size", type=int, required=True, help="number of tokens")
    parser.add_argument(
        "--split", default="train", help="split read of a data set (default: train)"
    )
    parser.add_argument(
        "--character_coverage",
        type=float,
        default=0.9995,
        help="share of the characters that must be in the vocabulary (default: 0.9995)",
    )
    args = parser.parse_args(argv)
    try:
        train_tokenizer(
            args.corpus,
            args.output,
            args.vocab_size,
            split=args.split,
            character_coverage=args.character_coverage,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(
        f"Wrote a tokenizer of {args.vocab_size} tokens to {args.output}. Use it with"
        f" --config.tokenizer={args.output}"
    )


if __name__ == "__main__":
    main()
