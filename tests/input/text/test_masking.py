import numpy as np
import pytest

from vlmo_jax.input.text import masking

CLS, SEP, MASK, VOCAB = 2, 3, 4, 100
RANDOM_IDS = masking.replacement_ids(VOCAB, range(5))


def pack(ids, length):
    row = np.zeros(length, np.int32)
    row[: len(ids) + 2] = [CLS, *ids, SEP]
    return row


def mask(row, words, seed=0, **options):
    options = {"max_masked_tokens": 8, "mask_id": MASK, "random_ids": RANDOM_IDS} | options
    return masking.mask_whole_words(row, words, np.random.default_rng(seed), **options)


def random_text(rng, num_words):
    words = np.repeat(np.arange(num_words), rng.integers(1, 4, num_words)).tolist()
    return rng.integers(5, VOCAB, len(words)).tolist(), words


def test_replacement_ids_are_all_but_the_special_ones():
    assert masking.replacement_ids(8, [0, 5, 3]).tolist() == [1, 2, 4, 6, 7]


def test_whole_words_are_chosen_never_parts_and_never_special_tokens():
    rng = np.random.default_rng(1)
    for seed in range(300):
        ids, words = random_text(rng, rng.integers(1, 12))
        row = pack(ids, 40)
        masked, positions, labels = mask(row, words, seed)
        used = labels != -1
        chosen = positions[used]
        assert used.any() and chosen.tolist() == sorted(set(chosen.tolist()))
        assert not positions[~used].any()
        assert (chosen >= 1).all() and (chosen <= len(ids)).all()
        assert (labels[used] == row[chosen]).all()
        unchosen_words = {word for i, word in enumerate(words, 1) if i not in chosen}
        assert not unchosen_words & {words[i - 1] for i in chosen}
        others = np.setdiff1d(np.arange(40), chosen)
        assert (masked[others] == row[others]).all()


@pytest.mark.parametrize(
    "num_words, rate, expected",
    [(1, 0.15, 1), (3, 0.15, 1), (10, 0.15, 2), (20, 0.15, 3), (20, 0.5, 10), (4, 1.0, 4)],
)
def test_how_many_words_are_chosen(num_words, rate, expected):
    row = pack([7] * num_words, 30)
    for seed in range(20):
        _, _, labels = mask(row, list(range(num_words)), seed, mask_rate=rate, max_masked_tokens=20)
        assert (labels != -1).sum() == expected


def test_every_word_is_as_likely():
    row = pack([7] * 10, 20)
    counts = sum(
        np.bincount(mask(row, list(range(10)), seed)[1][:2], minlength=11) for seed in range(2000)
    )
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:] / 2000, 0.2, atol=0.04)


def test_of_the_chosen_tokens_80_percent_are_masked_10_random_10_unchanged():
    fates = np.zeros(3)
    seen = set()
    for seed in range(1500):
        row = pack([7] * 20, 24)
        masked, positions, labels = mask(row, list(range(20)), seed)
        shown = masked[positions[labels != -1]]
        random = shown[(shown != MASK) & (shown != 7)]
        seen |= set(random.tolist())
        fates += (shown == MASK).sum(), random.size, (shown == 7).sum()
    np.testing.assert_allclose(fates / fates.sum(), [0.8, 0.1, 0.1], atol=0.02)
    assert seen <= set(RANDOM_IDS.tolist()) and len(seen) > 80


def test_a_word_that_does_not_fit_is_passed_over_for_one_that_does():
    words = [0, 0, 0, 0, 1, 2, 2, 2]
    row = pack([10, 11, 12, 13, 20, 30, 31, 32], 12)
    for seed in range(30):
        _, positions, labels = mask(row, words, seed, max_masked_tokens=2)
        assert labels.tolist() == [20, -1] and positions.tolist() == [5, 0]


@pytest.mark.parametrize("ids, words", [([], []), ([9, 9, 9], [0, 0, 0])])
def test_nothing_is_masked_where_no_word_fits(ids, words):
    row = pack(ids, 8)
    masked, positions, labels = mask(row, words, max_masked_tokens=2)
    assert (masked == row).all() and not positions.any() and (labels == -1).all()


def test_single_tokens_are_hidden_each_with_the_same_probability():
    ids, length = np.asarray([1, 10, 11, 12, 13, 2, 0, 0], np.int32), 6
    rng, counts, shown = np.random.default_rng(0), np.zeros(8), []
    for _ in range(3000):
        masked, positions, labels = masking.mask_tokens(
            ids,
            length,
            rng,
            mask_id=4,
            random_ids=np.arange(20, 30, dtype=np.int32),
            mask_rate=0.3,
            max_masked_tokens=5,
        )
        used = labels != -1
        assert (labels[used] == ids[positions[used]]).all() and (positions[~used] == 0).all()
        assert (np.diff(positions[used]) > 0).all()
        kept = np.setdiff1d(np.arange(8), positions[used])
        assert (masked[kept] == ids[kept]).all()
        counts[positions[used]] += 1
        shown += list(masked[positions[used]])
    # Every token but that of the begin, that of the end too, and no padding.
    assert counts[[0, 6, 7]].sum() == 0
    np.testing.assert_allclose(counts[1:6] / 3000, 0.3, atol=0.03)
    shown = np.asarray(shown)
    np.testing.assert_allclose((shown == 4).mean(), 0.8, atol=0.03)
    np.testing.assert_allclose((shown >= 20).mean(), 0.1, atol=0.03)


def test_of_more_tokens_than_fit_a_random_choice_is_hidden():
    ids, rng, counts = np.arange(12, dtype=np.int32), np.random.default_rng(0), np.zeros(12)
    for _ in range(600):
        _, positions, labels = masking.mask_tokens(
            ids,
            12,
            rng,
            mask_id=4,
            random_ids=np.arange(20, 30, dtype=np.int32),
            mask_rate=0.99,
            max_masked_tokens=3,
        )
        assert (labels != -1).all()
        counts[positions] += 1
    np.testing.assert_allclose(counts[1:] / 600, 3 / 11, atol=0.08)
