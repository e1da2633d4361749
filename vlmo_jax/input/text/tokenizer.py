"""Text to token ids: SentencePiece models trained by us, BERT WordPiece vocabularies for official
weights.
"""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import sentencepiece
import tokenizers

from vlmo_jax.datasets import sources

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
EMBEDDED = {"emoji": sources.EMBEDDED["emoji"] / "sentencepiece.model"}


class Encoding(NamedTuple):
    """The tokens of one text, without special tokens around them.

    Attributes:
        ids: token ids in [0, vocab_size).
        words: for each token the running number, from 0, of the whole word it belongs to.
    """

    ids: list[int]
    words: list[int]


class Tokenizer(Protocol):
    """What every tokenizer offers; all of them can be pickled and used from many threads.

    Attributes:
        vocab_size: number of tokens, special ones included.
        pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special tokens.
        special_ids: these five ids.
        fingerprint: SHA-256 of the file in hexadecimal.
        path: the file.
    """

    vocab_size: int
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    special_ids: tuple[int, ...]
    fingerprint: str
    path: pathlib.Path

    def encode(self, text: str) -> Encoding:
        """Returns the tokens of a text; "[SEP]" and the like in a text are plain characters, never
        special tokens.
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

    Raises:
        ValueError: the file is no SentencePiece model or lacks a special token.
    """

    def __init__(self, path: pathlib.Path):
        model, self.path = path.read_bytes(), path
        self.fingerprint = hashlib.sha256(model).hexdigest()
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError(f"{path} is no SentencePiece model: {error}") from error
        self.vocab_size = self._processor.get_piece_size()
        pieces = [self._processor.id_to_piece(i) for i in range(self.vocab_size)]
        self.special_ids = _special_ids(
            path,
            {piece: i for i, piece in enumerate(pieces)},
            "train one with: python -m vlmo_jax.input.train_tokenizer --corpus FILE --output"
            " FILE.model --vocab_size N",
        )
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = self.special_ids
        self._starts_word = [piece.startswith("▁") for piece in pieces]

    def encode(self, text: str) -> Encoding:
        """See `Tokenizer.encode`."""
        ids = self._processor.encode(text)
        return Encoding(ids, _number_words([self._starts_word[i] for i in ids]))

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        return self._processor.decode([int(i) for i in ids if i not in self.special_ids])


class WordPieceTokenizer:
    """BERT's uncased WordPiece with a vocabulary file of one token a line, as the official VLMo
    weights use it.

    A whole word begins at each piece that does not start with "##", punctuation marks being words
    of their own.

    Args:
        path: the ".txt" file.

    Raises:
        ValueError: the vocabulary lacks a special token.
    """

    def __init__(self, path: pathlib.Path):
        data, self.path = path.read_bytes(), path
        self.fingerprint = hashlib.sha256(data).hexdigest()
        vocab = {token: i for i, token in enumerate(data.decode("utf-8").splitlines())}
        self.special_ids = _special_ids(path, vocab, "take the vocab.txt of bert-base-uncased")
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = self.special_ids
        self.vocab_size = max(vocab.values()) + 1
        self._tokenizer = tokenizers.Tokenizer(
            tokenizers.models.WordPiece(vocab, unk_token="[UNK]")
        )
        self._tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        self._tokenizer.decoder = tokenizers.decoders.WordPiece()

    def encode(self, text: str) -> Encoding:
        """See `Tokenizer.encode`."""
        encoding = self._tokenizer.encode(text)
        return Encoding(
            encoding.ids, _number_words([not token.startswith("##") for token in encoding.tokens])
        )

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        return self._tokenizer.decode([int(i) for i in ids if i not in self.special_ids])


def load_tokenizer(path_or_name: str) -> SentencePieceTokenizer | WordPieceTokenizer:
    """Loads the tokenizer in a file.

    Args:
        path_or_name: a SentencePiece ".model" file, a BERT vocabulary ".txt" file, or "emoji" for
            the SentencePiece model that comes with the package.

    Returns:
        An object with the attributes and methods of `Tokenizer`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, or lacks a special token.
    """
    if path_or_name in EMBEDDED:
        return SentencePieceTokenizer(EMBEDDED[path_or_name])
    path = pathlib.Path(path_or_name).expanduser()
    kinds = {".model": SentencePieceTokenizer, ".txt": WordPieceTokenizer}
    if path.suffix not in kinds:
        raise ValueError(
            f"tokenizer={str(path_or_name)!r} is not a tokenizer file: give a SentencePiece .model"
            " file, a BERT vocabulary .txt file or the name of one that comes with the package"
            f" ({', '.join(EMBEDDED)})"
        )
    if not path.is_file():
        raise FileNotFoundError(f"tokenizer={str(path_or_name)!r}: there is no such file")
    return kinds[path.suffix](path)


def _special_ids(path: pathlib.Path, vocab: dict[str, int], fix: str) -> tuple[int, ...]:
    missing = [token for token in SPECIAL_TOKENS if token not in vocab]
    if missing:
        raise ValueError(f"{path} lacks the special tokens {' '.join(missing)}; {fix}")
    return tuple(vocab[token] for token in SPECIAL_TOKENS)


def _number_words(starts_word: Sequence[bool]) -> list[int]:
    words = []
    for starts in starts_word:
        words.append(words[-1] + starts if words else 0)
    return words
