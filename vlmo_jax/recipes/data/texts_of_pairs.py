"""What data of pairs share, whatever is seen beside the texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from vlmo_jax.commands.fields import Choice, Extra, Kind, Number, Text, Whole
from vlmo_jax.datasets.identity import identify
from vlmo_jax.input.text.captions import check_captions
from vlmo_jax.input.text.coverage import describe_coverage
from vlmo_jax.input.text.masked_rows import check_masking_tokenizer
from vlmo_jax.input.text.masking import UNITS, WHOLE_WORDS, check_mask_rate
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.input.text.word_dropping import check_dropped
from vlmo_jax.recipes.data import opening

# What the fields of the texts may be.
TEXTS_OF_PAIRS: dict[str, Kind] = {
    "captions": Text(),
    "mask_rate": Number(),
    "max_masked_tokens": Whole(),
    "masking": Extra(Choice(UNITS)),
    "dropped_words": Extra(Number()),
}


class DescribesTexts:
    """The part of a Data of `protocols.py` that speaks of its texts.

    Args:
        config: of a recipe.

    Attributes:
        unit, texts: what an example and a text is, in the plural.
        tokenizer, source: once the data are open.
    """

    unit = texts = "examples"

    def __init__(self, config: ConfigDict) -> None:
        self.config = config
        self.tokenizer: Tokenizer | None = None
        self.source: Sequence = ()

    def describe_texts(self, records: Sequence) -> str:
        """How well the tokenizer fits the texts of the records, in words behind others."""
        if self.tokenizer is None or not len(records):
            return ""
        length = self.config.model.text_length
        return f"; {describe_coverage(records, self.tokenizer, length)}"

    def describe_long_texts(self, share: float) -> str:
        """See `protocols.Data`."""
        length = self.config.model.text_length
        return (
            f"{share:.1%} of the {self.texts} were longer than config.model.text_length={length}"
            " tokens and were cut."
        )


class TextsOfPairs(DescribesTexts):
    """The same of pairs, whose texts are captions."""

    unit, texts = "pairs", "captions"

    def check_texts(self) -> None:
        """Refuses impossible fields of the texts."""
        data = self.config.data
        if data.max_masked_tokens:
            check_mask_rate(data.mask_rate)
        check_captions(data.captions)
        check_dropped("data.dropped_words", data.get("dropped_words", 0.0))

    def open_texts(self) -> None:
        """Opens the tokenizer.

        Raises:
            ConfigError: it does not fit the model, or has no token for the words that are dropped.
        """
        self.tokenizer = opening.open_tokenizer(self.config)
        if self.config.data.get("dropped_words", 0.0):
            check_masking_tokenizer(self.tokenizer)

    @property
    def drawing(self) -> Mapping[str, Any]:
        """How captions are drawn and masked: arguments of a `PairMaker`."""
        data = self.config.data
        return {
            "captions": data.captions,
            "mask_rate": data.mask_rate,
            "masking_unit": data.get("masking", WHOLE_WORDS),
            "dropped_words": data.get("dropped_words", 0.0),
        }

    def identity(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return identify(self.source)

    def describe_beside(self) -> str:
        """Of what mixture the records are, and how the tokenizer fits, in words behind others."""
        mixture = opening.describe_mixture(self.config, self.source)
        return mixture + self.describe_texts(self.source)
