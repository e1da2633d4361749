import collections

import numpy as np
import pytest

from vlmo_jax.datasets import Record
from vlmo_jax.input.text import captions

RECORD = Record(b"", ("first text", "second text"), ("a", "b", "c"), "id")


def draw(record, mode, count=3000):
    rng = np.random.default_rng(0)
    return [captions.draw_caption(record, mode, rng) for _ in range(count)]


def test_text_mode_draws_each_text_as_often():
    counts = collections.Counter(draw(RECORD, "text"))
    assert set(counts) == set(RECORD.texts)
    assert abs(counts["first text"] / 3000 - 0.5) < 0.04


def test_text_and_keywords_has_its_documented_shares():
    parts = [caption.split(", ") for caption in draw(RECORD, "text_and_keywords")]
    assert {part[0] for part in parts} == set(RECORD.texts)
    keywords = [part[1:] for part in parts]
    assert abs(np.mean([not words for words in keywords]) - 0.8) < 0.03
    drawn = [words for words in keywords if words]
    assert all(len(set(words)) == len(words) and set(words) <= set("abc") for words in drawn)
    assert {len(words) for words in drawn} == {1, 2, 3}
    assert {tuple(words) for words in drawn if len(words) == 2} == {
        (x, y) for x in "abc" for y in "abc" if x != y
    }


def test_a_record_without_the_one_has_the_other():
    assert set(draw(Record(b"", ("only",), (), "id"), "text_and_keywords", 50)) == {"only"}
    assert set(draw(Record(b"", (), ("tag",), "id"), "text_and_keywords", 50)) == {"tag"}


@pytest.mark.parametrize("keywords, mode", [((), "text_and_keywords"), (("tag",), "text")])
def test_a_record_without_a_caption_is_refused(keywords, mode):
    with pytest.raises(captions.NoCaptionError, match=mode):
        draw(Record(b"", (), keywords, "id"), mode, 1)


@pytest.mark.parametrize("count, kept", [(0, 0), (3, 3), (4, 4), (5, 4)])
def test_packing(tokenizer, count, kept):
    ids = list(range(10, 10 + count))
    token_ids, token_mask = np.full(6, 99, np.int32), np.ones(6, np.bool_)
    assert captions.pack_tokens(ids, tokenizer, token_ids, token_mask) == kept
    padding = [tokenizer.pad_id] * (4 - kept)
    assert token_ids.tolist() == [tokenizer.begin_id, *ids[:kept], tokenizer.end_id, *padding]
    assert token_mask.tolist() == [True] * (kept + 2) + [False] * (4 - kept)


def test_the_hash_of_a_text_never_changes():
    assert captions.text_hash("123456789") == 0xCBF43926
    assert captions.text_hash("red apples") != captions.text_hash("red apple")
