import pickle

import pytest
import sentencepiece

from tests.paths import DATA
from vlmo_jax.input.text import tokenizer

VOCAB = DATA / "wordpiece_vocab.txt"


@pytest.fixture(scope="module", params=["emoji", str(VOCAB)])
def any_tokenizer(request):
    return tokenizer.load_tokenizer(request.param)


def test_special_tokens_have_ids_and_spellings(any_tokenizer):
    ids = (
        any_tokenizer.pad_id,
        1,
        any_tokenizer.begin_id,
        any_tokenizer.end_id,
        any_tokenizer.mask_id,
    )
    assert ids == tuple(any_tokenizer.special_tokens) == (0, 1, 2, 3, 4)
    assert any_tokenizer.special_tokens[any_tokenizer.mask_id] == "[MASK]"
    assert len(any_tokenizer.fingerprint) == 64


@pytest.mark.parametrize(
    "text", ["", " ", "The unaffable man's café.", "[MASK] man [SEP] [PAD]", "猫 😀", "a" * 300]
)
def test_any_text_gives_ids_and_words_in_range(any_tokenizer, text):
    ids, words = any_tokenizer.encode(text)
    assert len(ids) == len(words)
    assert all(0 <= i < any_tokenizer.vocab_size for i in ids)
    assert not {
        any_tokenizer.pad_id,
        any_tokenizer.begin_id,
        any_tokenizer.end_id,
        any_tokenizer.mask_id,
    } & set(ids)
    assert (
        not words
        or words[0] == 0
        and all(after - before in (0, 1) for before, after in zip(words, words[1:]))
    )


def test_copies_agree(any_tokenizer):
    copy = pickle.loads(pickle.dumps(any_tokenizer))
    text = "The unaffable man's café."
    assert copy.encode(text) == any_tokenizer.encode(text)
    assert (
        copy.decode(copy.encode("the man").ids)
        == any_tokenizer.decode(any_tokenizer.encode("the man").ids)
        == "the man"
    )
    assert (copy.fingerprint, copy.vocab_size) == (
        any_tokenizer.fingerprint,
        any_tokenizer.vocab_size,
    )


def test_decoding_leaves_special_tokens_out(any_tokenizer):
    ids = any_tokenizer.encode("the man").ids
    padded = [
        any_tokenizer.begin_id,
        *ids[:1],
        any_tokenizer.mask_id,
        *ids[1:],
        any_tokenizer.end_id,
        any_tokenizer.pad_id,
    ]
    assert any_tokenizer.decode(padded) == "the man"


def test_wordpiece_words_begin_where_no_continuation_does():
    encoding = tokenizer.load_tokenizer(str(VOCAB)).encode("The UNAFFABLE man's Café, xyzzy.")
    vocab = VOCAB.read_text().split()
    assert [vocab[i] for i in encoding.ids] == [
        "the",
        "un",
        "##aff",
        "##able",
        "man",
        "'",
        "s",
        "cafe",
        ",",
        "[UNK]",
        ".",
    ]
    assert encoding.words == [0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8]


def test_sentencepiece_words_are_those_between_blanks():
    loaded = tokenizer.load_tokenizer("emoji")
    assert loaded.vocab_size == 4000
    text = "Hatching chick's xylophone-quartet, 猫 zzyzx"
    encoding = loaded.encode(text)
    assert encoding.words[-1] + 1 == len(text.split())
    pieces = [[i for i, word in zip(*encoding) if word == number] for number in range(3)]
    assert [loaded.decode(ids) for ids in pieces] == ["hatching", "chick's", "xylophone-quartet,"]


def test_case_does_not_matter():
    loaded = tokenizer.load_tokenizer("emoji")
    assert loaded.encode("Red Heart") == loaded.encode("red heart")


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.model"):
        tokenizer.load_tokenizer(str(tmp_path / "gone.model"))
    with pytest.raises(ValueError, match=r"tokenizer='emojis'.*\.model.*\.txt.*emoji"):
        tokenizer.load_tokenizer("emojis")
    (tmp_path / "junk.model").write_bytes(b"junk")
    with pytest.raises(ValueError, match="junk.model is no SentencePiece model"):
        tokenizer.load_tokenizer(str(tmp_path / "junk.model"))


def test_vocabularies_without_special_tokens_are_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[SEP]\nman\n")
    with pytest.raises(ValueError, match=r"lacks the special tokens \[CLS\] \[MASK\]"):
        tokenizer.load_tokenizer(str(tmp_path / "vocab.txt"))
    with open(tmp_path / "plain.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a man", "a plan"] * 10),
            model_writer=file,
            vocab_size=11,
            minloglevel=2,
        )
    with pytest.raises(
        ValueError, match=r"lacks the special tokens \[PAD\] \[UNK\].*train_tokenizer"
    ):
        tokenizer.load_tokenizer(str(tmp_path / "plain.model"))


def _vocabulary(path, tokens, end="\n"):
    path.write_bytes(end.join([*tokenizer.BERT_TOKENS, *tokens, ""]).encode("utf-8"))
    return tokenizer.load_tokenizer(str(path))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_only_line_feeds_end_the_tokens_of_a_vocabulary(tmp_path, end):
    loaded = _vocabulary(tmp_path / "v.txt", ["a", "b\u2028", "\x85", "c\x0cd", "man"], end)
    assert loaded.vocab_size == 10 and loaded.encode("man a").ids == [9, 5]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a\u0378b", ["ab"]),  # unassigned
        ("a\uffffb", ["ab"]),  # never to be assigned
        ("a\u08e2b", ["ab"]),  # a format character since Unicode 9
        ("a\u07fdb", ["ab"]),  # a combining mark since Unicode 11
        ("a\U00010eadb", ["a", "\U00010ead", "b"]),  # a hyphen since Unicode 13
        ("a\u166db", ["a\u166db"]),  # no punctuation mark since Unicode 12
        ("a\u0085b", ["ab"]),
        ("a\u2029\tb", ["a", "b"]),
        ("a$b", ["a", "$", "b"]),
    ],
)
def test_characters_are_what_they_are_to_bert(tmp_path, text, expected):
    tokens = sorted({"ab", *expected})
    loaded = _vocabulary(tmp_path / "v.txt", tokens)
    ids = loaded.encode(text).ids
    assert [tokens[i - len(tokenizer.BERT_TOKENS)] for i in ids] == expected


def test_cased_vocabularies_keep_case_and_accents(tmp_path):
    cased = _vocabulary(tmp_path / "c.txt", ["Man", "man", "Café", "cafe"])
    assert cased.encode("Man man Café").ids == [5, 6, 7]
    uncased = _vocabulary(tmp_path / "u.txt", ["man", "cafe"])
    assert uncased.encode("Man man Café").ids == [5, 5, 6]
