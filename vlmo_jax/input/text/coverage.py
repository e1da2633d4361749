"""How well a tokenizer and a text length fit some texts."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from vlmo_jax.datasets import BrokenRecordError, TextRecord
from vlmo_jax.datasets.records import QuestionsRecord, StatementRecord
from vlmo_jax.input.text.tokenizer import Tokenizer

LARGEST_SHARE = 0.05  # of unknown tokens, or of cut texts, that goes without a warning
_SAMPLE, _RECORDS = 2000, 500


class Coverage(NamedTuple):
    """What became of some texts.

    Attributes:
        texts: number of them.
        tokens: in all of them, without special tokens around.
        unknown: tokens that stand for letters which the tokenizer does not have.
        cut: texts that are longer than the text length.
    """

    texts: int
    tokens: int
    unknown: int
    cut: int

    @property
    def unknown_share(self) -> float:
        """Of the tokens, in [0, 1]."""
        return self.unknown / max(1, self.tokens)

    @property
    def cut_share(self) -> float:
        """Of the texts, in [0, 1]."""
        return self.cut / max(1, self.texts)


def measure_coverage(texts: Iterable[str], tokenizer: Tokenizer, text_length: int) -> Coverage:
    """Counts unknown tokens and texts that are cut.

    Args:
        texts: any.
        tokenizer: of the texts.
        text_length: tokens of a row, those of begin and end included.
    """
    unknown_ids = [i for i, name in tokenizer.special_tokens.items() if name == "[UNK]"]
    count = tokens = unknown = cut = 0
    for text in texts:
        ids = tokenizer.encode(text).ids
        count, tokens = count + 1, tokens + len(ids)
        unknown += sum(map(ids.count, unknown_ids))
        cut += len(ids) > text_length - 2
    return Coverage(count, tokens, unknown, cut)


def sample_texts(source: Sequence) -> list[str]:
    """Up to 2,000 texts of up to 500 records that lie evenly in a source, in its order."""
    places = (i * len(source) // _RECORDS for i in range(_RECORDS))
    indices = range(len(source)) if len(source) <= _RECORDS else places
    return list(itertools.islice(_texts_of(source, indices), _SAMPLE))


def _texts_of(source: Sequence, indices: Iterable[int]) -> Iterator[str]:
    for index in indices:
        try:
            record = source[index]
        except (BrokenRecordError, OSError):  # training tells of it
            continue
        yield from texts_of(record)


def texts_of(record: Any) -> Sequence[str]:
    """The texts of a record of any kind."""
    if isinstance(record, TextRecord):
        return (record.text,)
    if isinstance(record, StatementRecord):
        return (record.statement,)
    return record.questions if isinstance(record, QuestionsRecord) else record.texts


def describe_coverage(
    source: Sequence, tokenizer: Tokenizer, text_length: int, *, cuts: bool = True
) -> str:
    """Says how many tokens of a sample are unknown and how many texts are cut, loudly where these
    are many.

    Args:
        source: records of images with captions, or of texts.
        tokenizer: of the texts.
        text_length: as in `measure_coverage`.
        cuts: whether long texts are cut, and not put into several rows.
    """
    found = measure_coverage(sample_texts(source), tokenizer, text_length)
    cut = f", {found.cut_share:.1%} of them are cut at {text_length}" if cuts else ""
    said = [f"{found.unknown_share:.1%} of the tokens of {found.texts:,} texts are unknown{cut}"]
    if found.unknown_share > LARGEST_SHARE:
        said.append(
            f"WARNING: {tokenizer.path.name} cannot spell {found.unknown_share:.0%} of their"
            " tokens, which a model then cannot tell apart; train a tokenizer on them with: python"
            " -m vlmo_jax.input.train_tokenizer"
        )
    if cuts and found.cut_share > LARGEST_SHARE:
        said.append(
            f"WARNING: {found.cut_share:.0%} of these texts are longer than"
            f" config.model.text_length={text_length} tokens and lose their ends; set it higher, or"
            " train a tokenizer on them with: python -m vlmo_jax.input.train_tokenizer"
        )
    return "\n".join(said)
