"""CLIP's tokenizer: whole words, the way back, plain special spellings, and files that are none."""

import gzip
import pickle

import numpy as np
import pytest

from vlmo_jax.input.text.byte_pairs import BytePairTokenizer, byte_letters, clean
from vlmo_jax.input.text.captions import pack_tokens
from vlmo_jax.input.text.tokenizer import TokenizerError, load_tokenizer, read_tokenizer


@pytest.fixture(scope="module")
def clip():
    return load_tokenizer("clip")


def test_its_numbers(clip):
    assert (clip.vocab_size, clip.begin_id, clip.end_id, clip.pad_id) == (49_408, 49_406, 49_407, 0)
    assert clip.mask_id is None and len(set(byte_letters().values())) == 256


def test_words_and_the_way_back(clip):
    encoding = clip.encode("Two  snowboarders don't\tjump &amp; fly")
    assert clip.decode(encoding.ids) == "two snowboarders don 't jump & fly"
    words = [
        clip.decode([i for i, w in zip(encoding.ids, encoding.words) if w == word])
        for word in range(encoding.words[-1] + 1)
    ]
    assert words == ["two", "snowboarders", "don", "'t", "jump", "&", "fly"]
    assert len(encoding.ids) > len(words)
    assert clip.decode(clip.encode("çé 😀").ids) == "çé 😀" and clip.encode("").ids == []


def test_what_spells_a_special_token_is_plain_characters(clip):
    for text in ("<start_of_text>", "a <|endoftext|> b", "<end_of_text>"):
        assert not set(clip.encode(text).ids) & set(clip.special_tokens)


def test_texts_are_mended_first():
    assert clean(" “Caf\u00c3\u00a9”  &amp;amp;\n X") == '"café" & x'


def test_it_travels_by_its_contents(clip):
    again = read_tokenizer("tokenizer.gz", clip.contents)
    assert again.fingerprint == clip.fingerprint
    for other in (again, pickle.loads(pickle.dumps(clip))):
        assert other.encode("a cat").ids == clip.encode("a cat").ids


def test_a_long_text_keeps_its_end(clip):
    ids, mask = np.zeros(6, np.int32), np.zeros(6, bool)
    kept = pack_tokens(clip.encode("one two three four five six").ids, clip, ids, mask)
    assert kept == 4 and ids[-1] == clip.end_id and mask.all()


def test_a_small_file_of_merges(tmp_path):
    path = tmp_path / "merges.txt.gz"
    path.write_bytes(gzip.compress(b"#version\nc a\nca t</w>\n"))
    small = load_tokenizer(str(path))
    assert small.vocab_size == 512 + 2 + 2
    assert small.encode("cat").ids == [513] and small.encode("cats").words == [0, 0, 0]


@pytest.mark.parametrize(
    "contents, message",
    [
        (b"no gzip", "is no gzip file of merges"),
        (gzip.compress(b"#version\na b c\n", mtime=0), "a line has 'a b c'"),
        (gzip.compress(b"#version\n", mtime=0), "it has no line"),
        (gzip.compress(b"#version\nab c\n", mtime=0), "do not follow from each other"),
        (gzip.compress(b"#\n\xff\xfe x\n", mtime=0), "is no gzip file of merges"),
    ],
)
def test_files_that_are_none(tmp_path, contents, message):
    path = tmp_path / "merges.gz"
    path.write_bytes(contents)
    with pytest.raises(TokenizerError, match=message):
        BytePairTokenizer(path)
