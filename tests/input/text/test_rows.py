import numpy as np
import pytest

from vlmo_jax.input.text import captions
from vlmo_jax.input.text import rows as text_rows
from vlmo_jax.input.text.masking import NO_WORD
from vlmo_jax.input.text.tokenizer import Encoding


class Tokenizer:
    pad_id, begin_id, end_id, mask_id = 0, 2, 3, 4


def random_texts(rng, count, most_words=20, first=5):
    """Texts of words of 1 to 3 tokens; each token id comes once in all."""
    texts = []
    for _ in range(count):
        words = np.repeat(np.arange(rng.integers(0, most_words)), rng.integers(1, 4, 1)[0]).tolist()
        texts.append(Encoding(list(range(first, first + len(words))), words))
        first += len(words)
    return texts


@pytest.mark.parametrize(
    "size, expected", [(0, 0), (1, 1), (2, 1), (3, 3), (4, 3), (5, 3), (6, 6), (9, 6)]
)
def test_whole_words_that_fit_are_counted(size, expected):
    assert text_rows.count_fitting([0, 1, 1, 2, 2, 2], size) == expected


def test_windows_are_the_text_cut_between_words():
    for text in random_texts(np.random.default_rng(0), 200, most_words=60):
        windows = text_rows.cut_windows(text, 10)
        assert [i for window in windows for i in window.ids] == text.ids
        assert [word for window in windows for word in window.words] == text.words
        assert all(0 < len(window.ids) <= 10 for window in windows)
        assert all(len(window.ids) >= 8 for window in windows[:-1])
        assert all(a.words[-1] != b.words[0] for a, b in zip(windows, windows[1:]))


def test_a_word_longer_than_a_window_is_cut():
    windows = text_rows.cut_windows(Encoding(list(range(12)), [0] * 10 + [1, 1]), 4)
    assert [window.ids for window in windows] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_row_is_filled_to_the_last_word_that_fits():
    texts = [
        Encoding([5, 6], [0, 1]),
        Encoding([], []),
        Encoding([7, 8, 9, 10], [0, 0, 1, 1]),
        Encoding([11], [0]),
    ]
    filled = lambda room: [piece.ids for piece in text_rows.fill_row(texts, room)]
    assert filled(9) == [[5, 6], [7, 8, 9, 10]]
    assert filled(10) == [[5, 6], [7, 8, 9, 10], [11]] == filled(30)
    assert filled(7) == filled(6) == [[5, 6], [7, 8]]
    assert filled(3) == filled(5) == [[5, 6]]
    assert filled(2) == [[5]] and filled(1) == filled(0) == []


def test_no_more_texts_are_read_than_a_row_needs():
    texts = iter(random_texts(np.random.default_rng(0), 50, most_words=8))
    list(text_rows.fill_row(texts, 10))
    assert len(list(texts)) > 30


@pytest.mark.parametrize("length", [3, 8, 31])
def test_packed_rows_hold_each_token_once_in_order(length):
    texts = random_texts(np.random.default_rng(length), 100, most_words=30)
    rows = list(text_rows.pack_rows(texts, length))
    assert [i for row in rows for piece in row for i in piece.ids] == [
        i for text in texts for i in text.ids
    ]
    sizes = [1 + sum(len(piece.ids) + 1 for piece in row) for row in rows]
    assert max(sizes) <= length and (length < 8 or min(sizes[:-1]) >= length - 4)


def test_packed_rows_cut_words_only_where_a_row_is_too_short_for_them():
    texts = random_texts(np.random.default_rng(1), 100, most_words=30)
    pieces = [piece for row in text_rows.pack_rows(texts, 12) for piece in row]
    assert sum(len(set(piece.words)) for piece in pieces) == sum(
        len(set(text.words)) for text in texts
    )
    assert [
        piece.ids
        for row in text_rows.pack_rows([Encoding([1, 2, 3], [0, 0, 0])], 4)
        for piece in row
    ] == [[1, 2], [3]]


def test_a_row_is_written_with_separators_and_words_of_its_own():
    ids, mask = np.full(12, 99, np.int32), np.full(12, 7).astype(bool)
    pieces = [Encoding([5, 6, 7], [3, 3, 4]), Encoding([8, 9], [0, 1]), Encoding([10], [9])]
    words = text_rows.write_row(pieces, Tokenizer(), ids, mask)
    assert ids.tolist() == [2, 5, 6, 7, 3, 8, 9, 3, 10, 3, 0, 0]
    assert mask.tolist() == [True] * 10 + [False] * 2
    assert words == [0, 0, 1, NO_WORD, 2, 3, NO_WORD, 4, NO_WORD]


def test_an_empty_row_has_two_tokens():
    ids, mask = np.full(5, 99, np.int32), np.ones(5, bool)
    assert text_rows.write_row([], Tokenizer(), ids, mask) == []
    assert ids.tolist() == [2, 3, 0, 0, 0] and mask.tolist() == [True, True, False, False, False]


def test_a_tokenizer_may_pad_begin_and_end_with_any_token():
    other = Tokenizer()
    other.pad_id, other.begin_id, other.end_id, other.mask_id = 77, 70, 71, None
    ids, mask = np.zeros(8, np.int32), np.zeros(8, bool)
    text_rows.write_row([Encoding([5, 6], [0, 1])], other, ids, mask)
    assert ids.tolist() == [70, 5, 6, 71, 77, 77, 77, 77]
    assert mask.tolist() == [True] * 4 + [False] * 4
    captions.pack_tokens([5, 6, 7], other, ids[:4], mask[:4])
    assert ids[:4].tolist() == [70, 5, 6, 71]
