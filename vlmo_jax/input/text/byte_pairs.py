"""Text to token ids by CLIP's byte pairs.

Source: openai/CLIP, clip/simple_tokenizer.py, and open_clip, whose ids these are.
"""

import gzip
import hashlib
import html
import pathlib
import zlib
from collections.abc import Sequence

import ftfy
import tokenizers

from vlmo_jax.input.text.encoding import Encoding, TokenizerError

# Of the lines behind the first, those that CLIP uses; the file goes on.
NUM_MERGES = 49_152 - 256 - 2
BEGIN, END = "<start_of_text>", "<end_of_text>"
WORD_END = "</w>"
# Words are English contractions, runs of letters, single digits and runs of anything else.
WORDS = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
LARGEST = 2**24  # bytes of merges; CLIP's are 3.1 million


def byte_letters() -> dict[int, str]:
    """The letter that stands for each byte: itself where it can be seen, else one from 256 on."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    seen += range(ord("®"), ord("ÿ") + 1)
    others = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {
        byte: chr(256 + number) for number, byte in enumerate(others)
    }


class BytePairTokenizer:
    """CLIP's tokenizer: texts are mended, in lower case and with single blanks, and spelled in
    pieces of bytes, of which there is one for everything.

    Differs from open_clip's in one thing: there what spells a special token in a text is that
    token, here it is plain characters.

    Args:
        path: the ".gz" file of merges: a line that is not read, then two pieces a line.
        contents: of the file; None: they are read.

    Raises:
        TokenizerError: the file holds no merges.
    """

    pad_id = 0  # as there, though it is also a piece: "!"
    mask_id = None

    def __init__(self, path: pathlib.Path, contents: bytes | None = None) -> None:
        self.contents = path.read_bytes() if contents is None else contents
        self.path, self.fingerprint = path, hashlib.sha256(self.contents).hexdigest()
        merges = _read_merges(path, self.contents)
        letters = list(byte_letters().values())
        pieces = [*letters, *(letter + WORD_END for letter in letters)]
        pieces += ["".join(merge) for merge in merges]
        vocab = {piece: number for number, piece in enumerate(pieces)}
        self.begin_id, self.end_id = len(pieces), len(pieces) + 1
        self.special_tokens = {self.begin_id: BEGIN, self.end_id: END}
        self.vocab_size = len(pieces) + 2
        self._tokenizer = _byte_pairs(path, vocab, merges)

    def encode(self, text: str) -> Encoding:
        """See `Tokenizer.encode`."""
        encoding = self._tokenizer.encode(clean(text), add_special_tokens=False)
        words, word = [], 0
        for token in encoding.tokens:
            words.append(word)
            word += token.endswith(WORD_END)
        return Encoding(encoding.ids, words)

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        numbers = (int(number) for number in ids if number not in self.special_tokens)
        pieces = "".join(self._tokenizer.id_to_token(number) or "" for number in numbers)
        bytes_of = {letter: byte for byte, letter in byte_letters().items()}
        text = bytes(bytes_of[letter] for letter in pieces).decode("utf-8", errors="replace")
        return text.replace(WORD_END, " ").strip()


def clean(text: str) -> str:
    """What CLIP does to a text first: broken letters are mended, HTML is undone, blanks are single
    and there are no capitals.
    """
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def _read_merges(path: pathlib.Path, data: bytes) -> list[tuple[str, str]]:
    try:
        unpacked = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, LARGEST)
        lines = unpacked.decode("utf-8").split("\n")[1 : 1 + NUM_MERGES]
    except (zlib.error, UnicodeDecodeError, gzip.BadGzipFile) as error:
        raise TokenizerError(f"{path} is no gzip file of merges: {error}") from error
    merges = [tuple(line.split()) for line in lines if line]
    wrong = next((line for line in merges if len(line) != 2), None)
    if not merges or wrong:
        found = f"a line has {' '.join(wrong)[:60]!r}" if wrong else "it has no line"
        raise TokenizerError(
            f"{path} holds no merges of two pieces a line ({found}); take"
            " bpe_simple_vocab_16e6.txt.gz of CLIP, or the name clip for the one of the package"
        )
    return [(first, second) for first, second in merges]


def _byte_pairs(
    path: pathlib.Path, vocab: dict[str, int], merges: list[tuple[str, str]]
) -> tokenizers.Tokenizer:
    try:
        model = tokenizers.models.BPE(vocab, merges, end_of_word_suffix=WORD_END)
    except Exception as error:  # its own kind
        raise TokenizerError(
            f"{path}: its merges do not follow from each other: {error}; take"
            " bpe_simple_vocab_16e6.txt.gz of CLIP"
        ) from error
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(WORDS), "removed", invert=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer
