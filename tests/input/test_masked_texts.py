import collections
import copy

import numpy as np
import pytest

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets import BrokenRecordError, TextRecord
from vlmo_jax.input.attempts import BrokenDataError
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.masked_texts import EvalMaskedTexts, MaskedTextExamples
from vlmo_jax.input.pipeline import Loading, stream_batches
from vlmo_jax.input.sampling import RecordOrder
from vlmo_jax.input.text.masked_rows import TextRows

T, M = 16, 4
WORDS = (
    "apple",
    "cat",
    "cloud",
    "hatching",
    "lightning",
    "rain",
    "walking",
    "face",
    "green",
    "twenty",
)
ROWS = TextRows(text_length=T, max_masked_tokens=M)


def make_texts(count, longest=30, seed=0):
    rng = np.random.default_rng(seed)
    return [
        TextRecord(f"{' '.join(rng.choice(WORDS, rng.integers(1, longest)))} {i}", f"t:{i}")
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def texts():
    return make_texts(30)


def join(batches):
    """The batches in one, and token_ids: what stood there before some of it was masked."""
    batch = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return batch | {"token_ids": unmasked(batch)}


def unmasked(batch):
    token_ids = batch["mlm_token_ids"].copy()
    rows, columns = np.nonzero(batch["mlm_labels"] >= 0)
    token_ids[rows, batch["mlm_positions"][rows, columns]] = batch["mlm_labels"][rows, columns]
    return token_ids


def rows_of(source, tokenizer, epochs, seed=3, **options):
    """token_ids of every row of some epochs, special tokens included, padding left out; and the
    batch of all of them.
    """
    maker = MaskedTextExamples(source, tokenizer, ROWS, seed=seed, **options)
    with stream_batches(maker, batch_size=len(source), start_step=0, end_step=epochs) as stream:
        batch = join(list(stream))
    return (
        [ids[mask].tolist() for ids, mask in zip(batch["token_ids"], batch["token_mask"])],
        batch,
        stream,
    )


def pieces_of(row, tokenizer):
    """The texts of a row between its special tokens."""
    assert row[0] == tokenizer.begin_id and row[-1] == tokenizer.end_id
    pieces, piece = [], []
    for i in row[1:]:
        if i == tokenizer.end_id:
            pieces.append(tuple(piece))
            piece = []
        else:
            piece.append(i)
    assert all(pieces)
    return pieces


def test_short_texts_are_whole_in_a_row_every_epoch(tokenizer):
    source = make_texts(40, longest=5)
    encoded = [tuple(tokenizer.encode(record.text).ids) for record in source]
    assert max(map(len, encoded)) <= T - 2
    rows, _, stream = rows_of(source, tokenizer, 2)
    for epoch in range(2):
        begun = collections.Counter(
            pieces_of(row, tokenizer)[0] for row in rows[40 * epoch : 40 * epoch + 40]
        )
        assert begun == collections.Counter(encoded)
    assert [row[:5] for row in rows[:40]] != [row[:5] for row in rows[40:]]
    assert stream.truncated == 0 and stream.texts == 80 and stream.seen > 160


def test_windows_cover_long_texts_over_the_epochs(texts, tokenizer):
    encoded = {i: tokenizer.encode(record.text).ids for i, record in enumerate(texts)}
    windows = max(-(-len(ids) // (T - 4)) for ids in encoded.values())
    assert windows >= 4
    rows, _, stream = rows_of(texts, tokenizer, windows)
    begun = collections.defaultdict(list)
    order = RecordOrder(len(texts), seed=3)
    for position, row in enumerate(rows):
        begun[order[position]].append(pieces_of(row, tokenizer)[0])
    assert set(begun) == set(encoded)
    beginnings = 0
    for i, ids in encoded.items():
        assert len(begun[i]) == windows
        distinct = set(begun[i])
        starts = [
            next(s for s in range(len(ids)) if tuple(ids[s : s + len(piece)]) == piece)
            for piece in distinct
        ]
        beginnings += begun[i][0] == tuple(ids[: len(begun[i][0])])
        covered = np.concatenate(
            [np.arange(s, s + len(piece)) for s, piece in zip(starts, distinct)]
        )
        assert sorted(set(covered.tolist())) == list(range(len(ids))), i
    assert beginnings < 30  # not every text begins its round with its first words
    assert stream.truncated == windows * sum(len(ids) > T - 2 for ids in encoded.values())


def test_a_row_goes_on_with_the_texts_that_follow(tokenizer):
    source = make_texts(40, longest=4)
    encoded = [tuple(tokenizer.encode(record.text).ids) for record in source]
    rows, _, _ = rows_of(source, tokenizer, 1)
    packed = 0
    for row in rows:
        assert T - 4 <= len(row) <= T  # full, but for a word that does not fit
        pieces = pieces_of(row, tokenizer)
        first = encoded.index(pieces[0])
        for offset, piece in enumerate(pieces):
            whole = encoded[(first + offset) % 40]
            assert piece == (whole if offset < len(pieces) - 1 else whole[: len(piece)])
        packed += len(pieces) > 1
    assert packed == 40


def test_without_packing_a_row_has_one_text(texts, tokenizer):
    rows, batch, _ = rows_of(texts, tokenizer, 2, packing=False)
    assert all(len(pieces_of(row, tokenizer)) == 1 for row in rows)
    assert not batch["token_mask"].all(1).all()


def test_a_text_never_comes_twice_in_a_row(tokenizer):
    rows, _, _ = rows_of(make_texts(2, longest=2), tokenizer, 4)
    for row in rows:
        pieces = pieces_of(row, tokenizer)
        assert len(pieces) == len(set(pieces)) == 2


def test_whole_words_are_masked_and_never_special_tokens(texts, tokenizer):
    rows, batch, _ = rows_of(texts, tokenizer, 3)
    special = np.isin(batch["token_ids"], list(tokenizer.special_tokens))
    starts = np.array([tokenizer._starts_word[i] for i in range(tokenizer.vocab_size)])[
        batch["token_ids"]
    ]
    used = batch["mlm_labels"] >= 0
    assert used.any(1).all()
    for row in range(len(rows)):
        places = batch["mlm_positions"][row, used[row]]
        assert (batch["token_ids"][row, places] == batch["mlm_labels"][row, used[row]]).all()
        assert not special[row, places].any()
        unchanged = np.setdiff1d(np.arange(T), places)
        assert (batch["mlm_token_ids"][row, unchanged] == batch["token_ids"][row, unchanged]).all()
        for place in places:  # the rest of the word is masked too
            for neighbour, boundary in ((place + 1, place + 1), (place - 1, place)):
                if neighbour < T and not special[row, neighbour] and not starts[row, boundary]:
                    assert neighbour in places
    assert (batch["mlm_token_ids"] == tokenizer.mask_id).sum() > 0.6 * used.sum()


@pytest.mark.parametrize(
    "options", [{"num_threads": 4}, {"num_workers": 2}, {"start_step": 2}, {"host_count": 2}]
)
def test_rows_depend_on_seed_and_position_alone(texts, tokenizer, options):
    def run(seed=5, start_step=0, host_count=1, **options):
        maker = MaskedTextExamples(texts, tokenizer, ROWS, seed=seed)
        hosts = []
        for host in range(host_count):
            with stream_batches(
                maker,
                batch_size=8,
                start_step=start_step,
                end_step=6,
                host=Host(host, host_count),
                loading=Loading(**options),
            ) as stream:
                hosts.append(list(stream))
        return [
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            for parts in zip(*hosts)
        ]

    expected = run()[options.get("start_step", 0) :]
    for batch, other in zip(run(**options), expected, strict=True):
        assert all((batch[name] == other[name]).all() for name in other)
    assert any(
        (unmasked(batch) != unmasked(other)).any() for batch, other in zip(run(seed=6), expected)
    )


class BrokenTexts(list):
    def __getitem__(self, index):
        if index == 4:
            raise BrokenRecordError("its bytes are damaged")
        return super().__getitem__(index)


def test_broken_and_empty_records_are_replaced_and_counted(tokenizer, caplog):
    source = BrokenTexts(make_texts(20, longest=3))
    source[9] = TextRecord("\u200b", "t:9")
    with pytest.raises(BrokenDataError, match=r"max_broken_fraction=0\.001"):
        maker = MaskedTextExamples(source, tokenizer, ROWS, seed=0)
        with stream_batches(maker, batch_size=20, start_step=0, end_step=9) as stream:
            list(stream)
    any_number = Loading(max_broken_fraction=1.0)
    with stream_batches(
        maker, batch_size=20, start_step=0, end_step=2, loading=any_number
    ) as stream:
        batch = join(list(stream))
    assert stream.broken > 2 and "'t:9'" in caplog.text and "'record 4'" in caplog.text
    # The number at the end of each text tells which record begins a row.
    begun = [
        tokenizer.decode(pieces_of(ids[mask].tolist(), tokenizer)[0]).split()[-1]
        for ids, mask in zip(batch["token_ids"], batch["token_mask"])
    ]
    assert len(begun) == 40 and set(begun) == {str(i) for i in range(20) if i not in (4, 9)}


@pytest.mark.parametrize("packing", [True, False])
def test_evaluation_has_every_token_once_and_the_same_masks_each_time(texts, tokenizer, packing):
    masked = EvalMaskedTexts(texts, tokenizer, ROWS, packing=packing)
    again = EvalMaskedTexts(texts, tokenizer, ROWS, packing=packing)
    batches = list(masked.batches(8))
    for batch, other in zip(batches, again.batches(8), strict=True):
        assert all((batch[name] == other[name]).all() for name in batch)
    joined = join(batches)
    valid = joined["valid"]
    assert valid.sum() == len(masked) and len(valid) % 8 == 0
    assert joined["index"][valid].tolist() == list(range(len(masked)))
    found = joined["token_ids"][valid][joined["token_mask"][valid]]
    expected = [i for record in texts for i in tokenizer.encode(record.text).ids]
    assert found[~np.isin(found, list(tokenizer.special_tokens))].tolist() == expected
    assert (joined["mlm_labels"][valid] >= 0).any(1).all()


def test_padding_of_an_evaluation_has_no_labels_and_hosts_share_the_rows(texts, tokenizer):
    masked = EvalMaskedTexts(texts, tokenizer, ROWS)
    size = 2 * (len(masked) // 3 + 1)
    assert len(masked) % size
    whole = list(masked.batches(size))
    hosts = [list(masked.batches(size, Host(host, 2))) for host in range(2)]
    for batch, *parts in zip(whole, *hosts, strict=True):
        for name, value in batch.items():
            assert (value == np.concatenate([part[name] for part in parts])).all(), name
    padding = ~whole[-1]["valid"]
    assert padding.any() and (whole[-1]["mlm_labels"][padding] == -1).all()
    assert (whole[-1]["token_mask"][padding].sum(1) == 2).all()


def test_an_evaluation_needs_texts_that_can_be_read(tokenizer):
    with pytest.raises(ValueError, match="no texts"):
        EvalMaskedTexts([], tokenizer, ROWS)
    with pytest.raises(BrokenDataError, match="record 4 of the evaluation data cannot be used"):
        EvalMaskedTexts(BrokenTexts(make_texts(6)), tokenizer, ROWS)


@pytest.mark.parametrize(
    "sizes, message",
    [
        ((2, 1), "config.model.text_length=2"),
        ((8, 0), "config.data.max_masked_tokens=0"),
        ((8, 7), "config.data.max_masked_tokens=7 must be in 1 .. text_length - 2 = 6"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ConfigError, match=message):
        TextRows(*sizes)


def test_impossible_arguments_are_refused(texts, tokenizer):
    without_mask = copy.copy(tokenizer)
    without_mask.mask_id = None
    for make in (MaskedTextExamples, EvalMaskedTexts):
        with pytest.raises(ConfigError, match="config.data.mask_rate=0"):
            make(texts, tokenizer, ROWS, seed=0, mask_rate=0.0)
        with pytest.raises(ConfigError, match="has no token that stands for a hidden one"):
            make(texts, without_mask, ROWS, seed=0)
