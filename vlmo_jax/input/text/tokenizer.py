"""Text to token ids: SentencePiece models trained by us, BERT WordPiece vocabularies and byte pairs
of CLIP for official weights.
"""

import hashlib
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import sentencepiece
import tokenizers

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets import sources
from vlmo_jax.datasets.errors import MissingDataError
from vlmo_jax.input.text.byte_pairs import BytePairTokenizer
from vlmo_jax.input.text.encoding import Encoding, TokenizerError

# The special tokens of BERT's vocabularies, and of those that we train: padding, unknown, begin,
# end, mask.
BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
EMBEDDED = {
    "emoji": sources.EMBEDDED["emoji"] / "sentencepiece.model",
    "clip": pathlib.Path(__file__).parent / "clip" / "bpe_simple_vocab_16e6.txt.gz",
}


class Tokenizer(Protocol):
    """What every tokenizer offers; all of them can be pickled and used from many threads.

    Attributes:
        vocab_size: number of tokens, special ones included.
        pad_id: id of what fills the rest of a row.
        begin_id: id of what a row begins with, [CLS] for BERT.
        end_id: id of what stands after a text, [SEP] for BERT.
        fingerprint: SHA-256 of the file in hexadecimal.
        path: the file.
        contents: of the file.
    """

    vocab_size: int
    pad_id: int
    begin_id: int
    end_id: int
    fingerprint: str
    path: pathlib.Path
    contents: bytes

    @property
    def special_tokens(self) -> Mapping[int, str]:
        """{id: how it is spelled} of all special tokens."""

    @property
    def mask_id(self) -> int | None:
        """Id of what stands for a hidden token, None for a tokenizer that has no such token."""

    def __hash__(self) -> int: ...

    def encode(self, text: str) -> Encoding:
        """Returns the tokens of a text; what spells a special token in it is plain characters,
        never a special token.
        """

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of token ids as the tokenizer spells it (lower case), special tokens
        left out.
        """


class SentencePieceTokenizer:
    """A SentencePiece model with the five special tokens, as `vlmo_jax.input.train_tokenizer` makes
    it.

    A whole word begins at each piece that starts with the word boundary mark "▁".

    Args:
        path: the ".model" file.
        contents: of the file; None: they are read.

    Raises:
        ValueError: the file is no SentencePiece model or lacks a special token.
    """

    def __init__(self, path: pathlib.Path, contents: bytes | None = None) -> None:
        self.contents = path.read_bytes() if contents is None else contents
        self.path, self.fingerprint = path, hashlib.sha256(self.contents).hexdigest()
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self.contents)
        except RuntimeError as error:
            raise TokenizerError(f"{path} is no SentencePiece model: {error}") from error
        self.vocab_size = self._processor.get_piece_size()
        pieces = [self._processor.id_to_piece(i) for i in range(self.vocab_size)]
        self.special_tokens = _bert_tokens(
            path,
            {piece: i for i, piece in enumerate(pieces)},
            "train one with: python -m vlmo_jax.input.train_tokenizer --corpus FILE --output"
            " FILE.model --vocab_size N",
        )
        self.pad_id, _, self.begin_id, self.end_id, self.mask_id = self.special_tokens
        self._starts_word = [piece.startswith("▁") for piece in pieces]

    def encode(self, text: str) -> Encoding:
        """See `Tokenizer.encode`."""
        ids = self._processor.encode(text)
        return Encoding(ids, _number_words([self._starts_word[i] for i in ids]))

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        return self._processor.decode([int(i) for i in ids if i not in self.special_tokens])


class WordPieceTokenizer:
    """BERT's WordPiece with a vocabulary file of one token a line, as the official VLMo weights use
    it. Texts become lower case unless the vocabulary has upper-case letters.

    A whole word begins at each piece that does not start with "##", punctuation marks being words
    of their own. The official tokenizer differs in one thing: there what spells a special token in
    a text is that token, here it is plain characters.

    Args:
        path: the ".txt" file.
        contents: of the file; None: they are read.

    Raises:
        ValueError: the vocabulary lacks a special token.
    """

    def __init__(self, path: pathlib.Path, contents: bytes | None = None) -> None:
        self.contents = path.read_bytes() if contents is None else contents
        self.path, self.fingerprint = path, hashlib.sha256(self.contents).hexdigest()
        vocab = {token: i for i, token in enumerate(_read_vocabulary(path, self.contents))}
        self.special_tokens = _bert_tokens(path, vocab, "take the vocab.txt of bert-base-uncased")
        self.pad_id, _, self.begin_id, self.end_id, self.mask_id = self.special_tokens
        self.vocab_size = max(vocab.values()) + 1
        self._tokenizer = tokenizers.Tokenizer(
            tokenizers.models.WordPiece(vocab, unk_token="[UNK]")
        )
        self._tokenizer.normalizer = _bert_normalizer(cased=_is_cased(vocab))
        self._tokenizer.pre_tokenizer = _bert_pre_tokenizer()
        self._tokenizer.decoder = tokenizers.decoders.WordPiece()

    def encode(self, text: str) -> Encoding:
        """See `Tokenizer.encode`."""
        encoding = self._tokenizer.encode(text)
        return Encoding(
            encoding.ids, _number_words([not token.startswith("##") for token in encoding.tokens])
        )

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        return self._tokenizer.decode([int(i) for i in ids if i not in self.special_tokens])


def _bert_normalizer(*, cased: bool) -> tokenizers.normalizers.Normalizer:
    """What BERT does to the characters of a text: control, format, private and unassigned ones are
    deleted, blanks become spaces, and accents and capitals go unless `cased`.

    BertNormalizer alone keeps unassigned characters, and what came after Unicode 8.
    """
    deleted = r"[\p{C}&&[^\t\n\r]]" if cased else r"[\p{C}&&[^\t\n\r]]|\p{Mn}"
    return tokenizers.normalizers.Sequence(
        [
            tokenizers.normalizers.Replace(tokenizers.Regex(deleted), ""),
            tokenizers.normalizers.BertNormalizer(lowercase=not cased),
        ]
    )


def _bert_pre_tokenizer() -> tokenizers.pre_tokenizers.PreTokenizer:
    """Splits at blanks and around BERT's punctuation marks: those of Unicode, and all of ASCII that
    is neither letter nor digit. BertPreTokenizer knows none that came after Unicode 8.
    """
    marks = tokenizers.Regex(r"[\p{P}!-/:-@\[-`{-~]")
    return tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.WhitespaceSplit(),
            tokenizers.pre_tokenizers.Split(marks, "isolated"),
        ]
    )


def _read_vocabulary(path: pathlib.Path, data: bytes) -> list[str]:
    """The tokens of a vocabulary file, one a line; only line feeds end lines, as tokens hold other
    separators.
    """
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is no vocabulary, it is not UTF-8: {error}") from error
    lines = lines if lines[-1] else lines[:-1]
    if lines and all(line.endswith("\r") for line in lines[:-1]) and len(lines) > 1:
        lines = [line.removesuffix("\r") for line in lines]
    return lines


def _is_cased(vocab: Iterable[str]) -> bool:
    """Whether a vocabulary has upper-case letters; those of uncased ones have next to none."""
    words = [token for token in vocab if token and not re.fullmatch(r"\[.*\]|<.*>", token)]
    upper = sum(token != token.lower() and any(map(str.isupper, token)) for token in words)
    return upper > 0.01 * len(words)


def load_tokenizer(path_or_name: str) -> Tokenizer:
    """Loads the tokenizer in a file.

    Args:
        path_or_name: a SentencePiece ".model" file, a BERT vocabulary ".txt" file, a ".gz" file of
            merges as CLIP's, or one that comes with the package: "emoji", a SentencePiece model,
            or "clip".

    Returns:
        An object with the attributes and methods of `Tokenizer`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, or lacks a special token.
    """
    path_or_name = str(path_or_name).removeprefix(sources.EMBEDDED_PREFIX)
    if path_or_name in EMBEDDED:
        path_or_name = str(EMBEDDED[path_or_name])
    path = user_path(path_or_name)
    kind = _kind_of(path)
    if not path.is_file():
        raise MissingDataError(f"tokenizer={str(path_or_name)!r}: there is no such file")
    return kind(path)


def read_tokenizer(name: str, contents: bytes) -> Tokenizer:
    """The tokenizer of a file that is not there any more.

    Args:
        name: of the file, whose suffix says what it is.
        contents: of the file.

    Raises:
        ValueError: the file is of another kind, or lacks a special token.
    """
    return _kind_of(pathlib.Path(name))(pathlib.Path(name), contents)


def _kind_of(path: pathlib.Path) -> Callable[..., Tokenizer]:
    kinds: dict[str, Callable[..., Tokenizer]] = {
        ".model": SentencePieceTokenizer,
        ".txt": WordPieceTokenizer,
        ".gz": BytePairTokenizer,
    }
    if path.suffix not in kinds:
        raise TokenizerError(
            f"tokenizer={str(path)!r} is not a tokenizer file: give a SentencePiece .model"
            " file, a BERT vocabulary .txt file, CLIP's merges as .txt.gz or the name of one that"
            " comes with the package"
            f" ({', '.join(EMBEDDED)})"
        )
    return kinds[path.suffix]


def check_text_length(text_length: int) -> None:
    """Raises ConfigError unless a text has room for a token between those of its begin and end."""
    require(
        text_length >= 3,
        f"config.model.text_length={text_length} has no room for [CLS], a token and [SEP]; use at"
        " least 3",
    )


def check_vocabulary(tokenizer: Tokenizer) -> None:
    """Raises ConfigError unless a tokenizer has tokens that are not special."""
    require(
        tokenizer.vocab_size > len(tokenizer.special_tokens),
        "config.tokenizer has special tokens only; train one on some text",
    )


def _bert_tokens(path: pathlib.Path, vocab: Mapping[str, int], fix: str) -> dict[int, str]:
    """{id: spelling} of `BERT_TOKENS`, in their order."""
    missing = [token for token in BERT_TOKENS if token not in vocab]
    if missing:
        raise TokenizerError(f"{path} lacks the special tokens {' '.join(missing)}; {fix}")
    return {vocab[token]: token for token in BERT_TOKENS}


def _number_words(starts_word: Sequence[bool]) -> list[int]:
    """The number of each token's word; a text's first token begins word 0 whatever it is."""
    words: list[int] = []
    for starts in starts_word:
        if not words:
            words.append(0)
        else:
            words.append(words[-1] + 1 if starts else words[-1])
    return words
