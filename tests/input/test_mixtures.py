"""Mixtures of sets: their shares, their epochs, and the same places from wherever one looks."""

import pickle

import numpy as np
import pytest

from vlmo_jax.datasets import TextRecord
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.masked_texts import MaskedTextExamples
from vlmo_jax.input.pipeline import Loading, stream_batches
from vlmo_jax.input.plain_images import ImageExamples, ImageRows
from vlmo_jax.input.sampling import MixedOrder, RecordOrder, count_places
from vlmo_jax.input.text.masked_rows import TextRows

# Fewer records would be slow: Grain shuffles by trying numbers up to 2**16.
SIZES, WEIGHTS = (100, 300, 70), (2.0, 1.0, 0.5)
SHARES = np.array(WEIGHTS) / sum(WEIGHTS)


def members_of(indices):
    """Which set each record number is of, and its number there."""
    starts = np.cumsum((0, *SIZES[:-1]))
    members = np.searchsorted(starts, indices, side="right") - 1
    return members, np.asarray(indices) - starts[members]


@pytest.fixture(scope="module")
def drawn():
    """The records of the first places."""
    order = MixedOrder(SIZES, WEIGHTS, seed=3)
    return np.array([order[position] for position in range(64 * 40)])


def test_every_stretch_has_the_shares(drawn):
    members, _ = members_of(drawn)
    for end in range(64, len(drawn) + 1, 64):
        counts = np.bincount(members[:end], minlength=3)
        assert np.all(np.abs(counts - end * SHARES) < 3)
        assert counts.tolist() == count_places(WEIGHTS, end)
        assert np.all(np.abs(np.bincount(members[end - 64 : end]) - 64 * SHARES) < 3)


def test_a_set_comes_whole_before_a_record_of_it_comes_again(drawn):
    members, numbers = members_of(drawn)
    for member, size in enumerate(SIZES):
        own = numbers[members == member]
        epochs = own[: len(own) // size * size].reshape(-1, size)
        assert len(epochs) >= 2
        assert np.all(np.sort(epochs) == np.arange(size))
        assert len(set(map(tuple, epochs))) == len(epochs), "an epoch repeats another's order"


def test_an_order_knows_the_epochs_of_each_set(drawn):
    order = MixedOrder(SIZES, WEIGHTS, seed=3)
    seen = {}
    for position, index in enumerate(drawn):
        assert order.epoch(position) == seen.get(index, 0)
        seen[index] = seen.get(index, 0) + 1
    assert [RecordOrder(5, 0).epoch(position) for position in (4, 5, 11)] == [0, 1, 2]


def test_places_follow_each_other_at_random(drawn):
    members, _ = members_of(drawn)
    blocks = {tuple(members[start : start + 64]) for start in range(0, len(members), 64)}
    assert len(blocks) == 40
    assert np.bincount(members[::2]).min() > 100, "even places leave out a set"


def test_a_place_depends_on_seed_and_position_alone(drawn):
    order = pickle.loads(pickle.dumps(MixedOrder(SIZES, WEIGHTS, seed=3)))
    places = [2000, 3, 999, 64, 63]
    assert [order[place] for place in places] == drawn[places].tolist()
    assert [MixedOrder(SIZES, (20, 10, 5), 3)[place] for place in places] == drawn[places].tolist()
    other = MixedOrder(SIZES, WEIGHTS, seed=4)
    assert [other[place] for place in range(64)] != drawn[:64].tolist()
    assert 0 <= order[10**15] < sum(SIZES)


def test_a_rare_set_comes_too():
    order = MixedOrder((400, 90), (99.0, 1.0), seed=0)
    assert sum(order[place] >= 400 for place in range(1600)) == 16
    assert count_places((99.0, 1.0), 1600) == [1584, 16]


@pytest.mark.parametrize(
    "sizes, weights, message",
    [
        ((3, 4), (1.0,), "2 data sets need as many weights, not 1"),
        ((3, 4), (1.0, 0.0), "numbers above 0"),
        ((3, 4), (1.0, -1.0), "numbers above 0"),
        ((3, 4), (1.0, float("nan")), "numbers above 0"),
        ((3, 0), (1.0, 1.0), "no records"),
    ],
)
def test_refusals(sizes, weights, message):
    with pytest.raises(ValueError, match=message):
        MixedOrder(sizes, weights, seed=0)


def shown(records, numbers_shown, *, start=0, end=9, batch_size=6, **options):
    """The numbers of the records of each batch."""
    maker = ImageExamples(records, ImageRows(8), seed=5)
    order = MixedOrder((10, 30), (3.0, 1.0), seed=5)
    with stream_batches(
        maker, batch_size=batch_size, start_step=start, end_step=end, order=order, **options
    ) as batches:
        return [numbers_shown(batch["image"]) for batch in batches]


def test_batches_are_the_same_from_any_step_for_any_hosts_workers_and_threads(
    make_plain_records, numbers_shown
):
    records = make_plain_records(40)
    whole = shown(records, numbers_shown)
    order = MixedOrder((10, 30), (3.0, 1.0), seed=5)
    assert sum(whole, []) == [order[position] for position in range(54)]
    for start in (1, 4, 8):
        assert shown(records, numbers_shown, start=start) == whole[start:]
    hosts = [shown(records, numbers_shown, host=Host(i, 2)) for i in range(2)]
    assert [left + right for left, right in zip(*hosts)] == whole
    workers = Loading(num_workers=2, num_threads=3)
    assert shown(records, numbers_shown, loading=workers) == whole


def test_a_long_text_goes_on_with_each_epoch_of_its_own_set(tokenizer):
    words = ("apple", "cat", "cloud", "rain", "face", "green", "walking", "twenty")
    records = [TextRecord(f"cat {i}", f"short:{i}") for i in range(20)]
    records.append(TextRecord(" ".join(words * 4), "long:0"))
    order = MixedOrder((20, 1), (1.0, 1.0), seed=0)
    maker = MaskedTextExamples(records, tokenizer, TextRows(12, 2), 0, packing=False, order=order)
    with stream_batches(maker, batch_size=32, start_step=0, end_step=1, order=order) as batches:
        [batch] = batches
    ids = batch["mlm_token_ids"].copy()
    rows, columns = np.nonzero(batch["mlm_labels"] >= 0)
    ids[rows, batch["mlm_positions"][rows, columns]] = batch["mlm_labels"][rows, columns]
    seen = [tuple(ids[place]) for place in range(32) if order[place] == 20]
    num_windows = len(set(seen))
    assert num_windows >= 3 and len(seen) > 2 * num_windows
    for start in range(len(seen) - num_windows):
        assert len(set(seen[start : start + num_windows])) == num_windows


def test_rows_of_texts_go_on_within_their_set(tokenizer):
    names = {"cat": 5, "rain": 30}
    records = [
        TextRecord(word, f"{word}:{i}") for word, count in names.items() for i in range(count)
    ]
    order = MixedOrder((5, 30), (1.0, 1.0), seed=0)
    assert order.records_with(4) == range(5) and order.records_with(5) == range(5, 35)
    maker = MaskedTextExamples(records, tokenizer, TextRows(40, 2), 0, order=order)
    with stream_batches(maker, batch_size=32, start_step=0, end_step=1, order=order) as batches:
        [batch] = batches
    mixed = [tokenizer.encode(word).ids for word in names]
    for row in range(32):
        ids = set(batch["mlm_token_ids"][row].tolist())
        assert not (ids & set(mixed[0]) and ids & set(mixed[1]))
