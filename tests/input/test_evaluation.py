import numpy as np
import pytest
from PIL import Image

from vlmo_jax.datasets import BrokenRecordError, Record
from vlmo_jax.input import evaluation
from vlmo_jax.input.attempts import BrokenDataError
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.pipeline import Loading


def join(batches):
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


class FailingSource(list):
    """Records of which some cannot be read at all."""

    def __getitem__(self, index):
        if index % 10 == 0:
            raise BrokenRecordError(f"bytes of {index} are damaged")
        return super().__getitem__(index)


def test_data_without_records_is_refused(tokenizer):
    with pytest.raises(ValueError, match="no records"):
        evaluation.image_batches([], image_size=8, batch_size=4)
    with pytest.raises(ValueError, match="no texts"):
        evaluation.text_batches([], tokenizer, text_length=8, batch_size=4)


@pytest.mark.parametrize("total", [1, 7, 8, 17, 21])
@pytest.mark.parametrize("host_count", [1, 2])
def test_evaluation_covers_every_row_once_on_any_number_of_hosts(
    make_records, tokenizer, total, host_count
):
    records = make_records(total)
    texts = [record.texts[0] for record in records]
    for kind in ("image", "text"):
        hosts = []
        for index in range(host_count):
            size = dict(batch_size=8, host=Host(index, host_count))
            if kind == "image":
                hosts.append(list(evaluation.image_batches(records, image_size=8, **size)))
            else:
                hosts.append(list(evaluation.text_batches(texts, tokenizer, text_length=8, **size)))
        assert {len(batches) for batches in hosts} == {-(-total // 8)}
        for k, parts in enumerate(zip(*hosts, strict=True)):
            batch = join(parts)
            valid = batch["valid"]
            assert len(valid) == 8
            expected = np.arange(8 * k, 8 * k + 8)
            assert (valid == (expected < total)).all()
            assert (batch["index"] == np.where(valid, expected, 0)).all()
            if kind == "image":
                assert batch["image"].dtype == np.uint8 and not batch["image"][~valid].any()
            else:
                assert batch["token_mask"][~valid].sum() == 2 * (~valid).sum()


def test_evaluation_images_are_pillows_square_bicubic(encode):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8))
    [batch] = evaluation.image_batches(
        [Record(encode(image), ("x",), (), "x")], image_size=20, batch_size=2
    )
    assert (batch["image"][0] == np.asarray(image.resize((20, 20), Image.Resampling.BICUBIC))).all()


def test_evaluation_texts_are_packed_in_order(tokenizer):
    [batch] = evaluation.text_batches(
        ["red apple", "cloud"], tokenizer, text_length=8, batch_size=2
    )
    for row, text in enumerate(["red apple", "cloud"]):
        ids = tokenizer.encode(text).ids
        assert batch["token_ids"][row, batch["token_mask"][row]].tolist() == [
            tokenizer.begin_id,
            *ids,
            tokenizer.end_id,
        ]


def test_long_evaluation_texts_are_cut_and_the_log_says_so(tokenizer, caplog):
    [batch] = evaluation.text_batches(
        ["cloud with lightning and rain", "cloud"], tokenizer, text_length=4, batch_size=2
    )
    assert batch["token_mask"][0].all() and batch["token_ids"][0, 3] == tokenizer.end_id
    assert "1 evaluation texts are longer than text_length=4" in caplog.text


def test_evaluation_does_without_no_record(make_records):
    with pytest.raises(
        BrokenDataError, match="record 4 of the evaluation data cannot be used: 'record 4'"
    ):
        list(evaluation.image_batches(make_records(6, broken=(4,)), image_size=8, batch_size=2))
    source = FailingSource(make_records(3))
    with pytest.raises(BrokenDataError, match="bytes of 0 are damaged"):
        list(evaluation.image_batches(source, image_size=8, batch_size=2))


def test_leaving_an_evaluation_early_is_clean(make_records):
    batches = evaluation.image_batches(make_records(20), image_size=8, batch_size=2)
    assert next(batches)["valid"].all()
    batches.close()
    assert list(batches) == []


@pytest.mark.parametrize("loading", [Loading(num_workers=2), Loading(num_threads=3, prefetch=1)])
def test_threads_and_workers_change_nothing(make_records, loading):
    records, size = make_records(7), dict(image_size=8, batch_size=3)
    expected = list(evaluation.image_batches(records, **size))
    for batch, other in zip(
        evaluation.image_batches(records, **size, loading=loading), expected, strict=True
    ):
        assert all((batch[name] == other[name]).all() for name in other)
        assert all(values.flags.owndata for values in batch.values())  # not a worker's memory
