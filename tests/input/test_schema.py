"""Columns: real, made-up and empty batches of a kind have the same arrays."""

import numpy as np
import pytest

from vlmo_jax.datasets import TextRecord
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.masked_images import MaskedImageExamples, MaskedViews
from vlmo_jax.input.masked_texts import MaskedTextExamples
from vlmo_jax.input.pairs import PairExamples, PairRows
from vlmo_jax.input.pipeline import stream_batches
from vlmo_jax.input.plain_images import ImageExamples, ImageRows
from vlmo_jax.input.schema import Column, empty_batch
from vlmo_jax.input.text.masked_rows import TextRows

VOCAB = 50


def shapes(batch):
    return {name: (values.shape, values.dtype.type) for name, values in batch.items()}


@pytest.mark.parametrize("kind", ["pairs", "texts", "masked images", "images"])
def test_real_made_up_and_empty_batches_have_the_columns_of_their_kind(
    make_records, tokenizer, kind
):
    records = make_records(6)
    rows = {
        "pairs": PairRows(12, 8, 3),
        "texts": TextRows(8, 3),
        "masked images": MaskedViews(16, 8, 4, 5, 2),
        "images": ImageRows(12),
    }[kind]
    maker = {
        "pairs": lambda: PairExamples(records, tokenizer, rows, seed=0),
        "texts": lambda: MaskedTextExamples(
            [TextRecord(record.texts[0], record.image_id) for record in records],
            tokenizer,
            rows,
            seed=0,
        ),
        "masked images": lambda: MaskedImageExamples(records, rows, seed=0),
        "images": lambda: ImageExamples(records, rows, seed=0),
    }[kind]()
    with stream_batches(maker, batch_size=4, start_step=0, end_step=1) as batches:
        real = next(batches)
    made_up = rows.synthetic(4, np.random.default_rng(0), vocab_size=VOCAB, first_row=4)
    expected = {name: ((4, *column.shape), column.dtype) for name, column in rows.columns.items()}
    assert shapes(real) == shapes(made_up) == shapes(empty_batch(rows.columns, 4)) == expected
    if "mlm_labels" in made_up:
        assert made_up["mlm_token_ids"].min() >= 5 and made_up["mlm_token_ids"].max() < VOCAB
        places = np.take_along_axis(made_up["mlm_token_ids"], made_up["mlm_positions"], 1)
        assert (made_up["mlm_labels"] == places).all()
    if "image_id" in made_up:
        assert made_up["image_id"].tolist() == made_up["text_id"].tolist() == [4, 5, 6, 7]


def test_what_stands_in_an_empty_batch():
    columns = {"a": Column((2,), np.int32, empty=-1), "b": Column((), np.bool_)}
    batch = empty_batch(columns, 3)
    assert (batch["a"] == -1).all() and batch["a"].shape == (3, 2) and not batch["b"].any()


def test_hosts_share_a_batch_and_its_padding():
    hosts = [Host(index, 3) for index in range(3)]
    assert [list(host.positions(2, 6)) for host in hosts] == [[12, 13], [14, 15], [16, 17]]
    assert [list(host.positions_below(15, 2, 6)) for host in hosts] == [[12, 13], [14], []]
    with pytest.raises(ValueError, match="batch_size=7 does not divide over host_count=3"):
        hosts[0].rows_of(7)
    with pytest.raises(ValueError, match="host_index=3 must be 0 to host_count - 1 = 2"):
        Host(3, 3)
