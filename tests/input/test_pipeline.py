import collections
import logging
import subprocess
import sys

import numpy as np
import pytest

from vlmo_jax.datasets import BrokenRecordError, Record
from vlmo_jax.input.attempts import BrokenDataError
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.pairs import PairExamples, PairRows
from vlmo_jax.input.pipeline import Loading, stream_batches
from vlmo_jax.input.schema import UNUSED

# Each argument of a stream, and what it belongs to.
ROWS = dict(image_size=16, text_length=10, max_masked_tokens=3)
EXAMPLES = dict(seed=5, captions="text", mask_rate=0.15)
AUGMENTATION = dict(crop_scale=(0.5, 1.0), flip=True, randaugment=(2, 7), color_jitter=())
STREAM = dict(batch_size=8, start_step=0, end_step=4)
HOST = dict(index=0, count=1)
LOADING = dict(num_workers=0, num_threads=1, prefetch=2, max_broken_fraction=0.001)


def stream(records, tokenizer, **options):
    def pick(defaults):
        return {name: options.pop(name, default) for name, default in defaults.items()}

    maker = PairExamples(
        records,
        tokenizer,
        PairRows(**pick(ROWS)),
        augmentation=Augmentation(**pick(AUGMENTATION)),
        **pick(EXAMPLES),
    )
    host, loading = Host(**pick(HOST)), Loading(**pick(LOADING))
    batches = stream_batches(maker, host=host, loading=loading, **pick(STREAM))
    assert not options, options
    return batches


def run(records, tokenizer, **options):
    with stream(records, tokenizer, **options) as batches:
        return list(batches)


def join(batches):
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


def test_without_masked_tokens_there_is_no_masked_copy_and_all_else_is_the_same(
    make_records, tokenizer
):
    plain = run(make_records(20), tokenizer, max_masked_tokens=0)[0]
    masked = run(make_records(20), tokenizer)[0]
    assert set(masked) - set(plain) == {"mlm_token_ids", "mlm_positions", "mlm_labels"}
    for name, values in plain.items():
        np.testing.assert_array_equal(values, masked[name], err_msg=name)


def test_a_batch_is_what_the_model_expects(make_records, tokenizer):
    batch = run(make_records(20), tokenizer)[0]
    expected = {
        "image": (np.uint8, (8, 16, 16, 3)),
        "token_ids": (np.int32, (8, 10)),
        "token_mask": (np.bool_, (8, 10)),
        "mlm_token_ids": (np.int32, (8, 10)),
        "mlm_positions": (np.int32, (8, 3)),
        "mlm_labels": (np.int32, (8, 3)),
        "image_id": (np.uint32, (8,)),
        "text_id": (np.uint32, (8,)),
    }
    assert {key: (value.dtype.type, value.shape) for key, value in batch.items()} == expected
    rows = np.arange(8)
    lengths = batch["token_mask"].sum(1)
    assert (batch["token_ids"][:, 0] == tokenizer.begin_id).all()
    assert (batch["token_ids"][rows, lengths - 1] == tokenizer.end_id).all()
    assert (batch["token_ids"][~batch["token_mask"]] == tokenizer.pad_id).all()
    used = batch["mlm_labels"] != UNUSED
    assert used.any(1).all() and not batch["mlm_positions"][~used].any()
    original = np.take_along_axis(batch["token_ids"], batch["mlm_positions"], 1)
    assert (original[used] == batch["mlm_labels"][used]).all()
    assert not np.isin(batch["mlm_labels"], list(tokenizer.special_tokens)).any()
    restored = batch["mlm_token_ids"].copy()
    restored[np.nonzero(used)[0], batch["mlm_positions"][used]] = batch["mlm_labels"][used]
    assert (restored == batch["token_ids"]).all()


def test_every_record_comes_once_an_epoch(make_records, tokenizer, number_of):
    numbers = number_of(join(run(make_records(24), tokenizer, end_step=6))["image_id"])
    assert sorted(numbers[:24]) == sorted(numbers[24:]) == list(range(24))
    assert numbers[:24] != numbers[24:]


def test_image_text_and_id_belong_together_and_augmentation_changes(make_records, tokenizer):
    records = make_records(4)
    batches = run(
        records,
        tokenizer,
        batch_size=4,
        end_step=40,
        crop_scale=(1.0, 1.0),
        flip=False,
        randaugment=(),
    )
    everything = join(batches)
    assert len(np.unique(everything["image_id"])) == len(np.unique(everything["text_id"])) == 4
    pairs = collections.Counter(
        zip(everything["image_id"].tolist(), everything["text_id"].tolist())
    )
    assert set(pairs.values()) == {40}
    varied = join(run(records, tokenizer, batch_size=4, end_step=40))
    first = varied["image_id"] == varied["image_id"][0]
    assert len(np.unique(varied["image"][first].reshape(40, -1), axis=0)) > 35
    assert len(np.unique(varied["mlm_token_ids"][first], axis=0)) > 2


def test_captions_that_differ_in_case_alone_have_one_text_id(make_records, tokenizer):
    records = [
        Record(record.image, (text,), (), record.image_id)
        for record, text in zip(make_records(3), ("Red Apple", "red apple", "pear"))
    ]
    batch = join(run(records, tokenizer, batch_size=3, end_step=1))
    assert len(np.unique(batch["image_id"])) == 3 and len(np.unique(batch["text_id"])) == 2


@pytest.mark.parametrize(
    "options", [{"num_threads": 3}, {"prefetch": 5}, {"num_workers": 2, "num_threads": 2}], ids=str
)
def test_threads_and_workers_change_nothing(make_records, tokenizer, options):
    records = make_records(21, broken=(3, 7))
    options = options | {"captions": "text_and_keywords", "max_broken_fraction": 1.0}
    expected = run(records, tokenizer, captions="text_and_keywords", max_broken_fraction=1.0)
    for left, right in zip(run(records, tokenizer, **options), expected, strict=True):
        assert_equal(left, right)


def test_a_restart_at_any_step_goes_on_with_the_same_batches(make_records, tokenizer):
    records = make_records(21, broken=(3, 7))
    whole = run(records, tokenizer, end_step=7, max_broken_fraction=1.0)
    for start in (1, 4):
        for left, right in zip(
            run(records, tokenizer, start_step=start, end_step=7, max_broken_fraction=1.0),
            whole[start:],
            strict=True,
        ):
            assert_equal(left, right)
    assert run(records, tokenizer, start_step=7, end_step=7) == []


@pytest.mark.parametrize("host_count", [2, 4])
def test_hosts_share_out_the_rows_of_each_batch(make_records, tokenizer, host_count):
    records = make_records(21)
    hosts = [run(records, tokenizer, index=index, count=host_count) for index in range(host_count)]
    for parts, whole in zip(zip(*hosts, strict=True), run(records, tokenizer), strict=True):
        assert_equal(join(parts), whole)


def test_another_seed_gives_other_examples(make_records, tokenizer):
    records = make_records(21)
    assert (
        run(records, tokenizer)[0]["image_id"] != run(records, tokenizer, seed=6)[0]["image_id"]
    ).any()


def test_long_captions_are_cut_and_counted(make_records, tokenizer):
    with stream(make_records(8), tokenizer, text_length=4, max_masked_tokens=2) as batches:
        batch = next(batches)
        assert batch["token_mask"].all() and batches.truncated == batches.texts == 8
        next(batches)
        assert batches.truncated == batches.texts == 16
    with stream(make_records(8), tokenizer, text_length=40) as batches:
        next(batches)
        assert batches.truncated == 0 and batches.texts == 8


def test_broken_records_are_counted_named_once_and_replaced(
    make_records, tokenizer, number_of, caplog
):
    records = make_records(40, broken=(11,))
    records[17] = Record(records[17].image, (), (), "record 17")
    with (
        caplog.at_level(logging.WARNING),
        stream(records, tokenizer, end_step=15, max_broken_fraction=0.1) as batches,
    ):
        numbers = [number_of(batch["image_id"]) for batch in batches]
        assert batches.broken >= 6 and batches.seen == 15 * 8 + batches.broken
    assert not {11, 17} & {number for step in numbers for number in step}
    named = [record.getMessage() for record in caplog.records if "Broken" in record.getMessage()]
    assert len(named) == 2
    assert sum("'record 11'" in message for message in named) == 1
    assert sum("'record 17'" in message and "no caption" in message for message in named) == 1


class FailingSource(list):
    """Records of which some cannot be read at all."""

    def __getitem__(self, index):
        if index % 10 == 0:
            raise BrokenRecordError(f"bytes of {index} are damaged")
        return super().__getitem__(index)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_many_broken_records_stop_the_run(make_records, tokenizer, num_workers):
    source = make_records(40, broken=range(0, 40, 10))
    with pytest.raises(BrokenDataError, match=r"config\.data\.max_broken_fraction=0\.001") as error:
        run(source, tokenizer, end_step=50, num_workers=num_workers)
    assert "'record 10' (" in str(error.value) and "%)" in str(error.value)


def test_records_that_cannot_be_read_count_as_broken(make_records, tokenizer):
    with pytest.raises(BrokenDataError, match=r"'record 20' \(bytes of 20 are damaged\)"):
        run(FailingSource(make_records(40)), tokenizer, end_step=50)


def test_a_limit_of_zero_allows_none_and_a_high_one_some(make_records, tokenizer):
    records = make_records(40, broken=(4,))
    assert len(run(records, tokenizer, end_step=10)) == 10
    with pytest.raises(BrokenDataError, match="of the .* training records"):
        run(records, tokenizer, end_step=10, max_broken_fraction=0.0)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_data_that_is_all_broken_ends_in_an_error(make_records, tokenizer, num_workers):
    with pytest.raises(BrokenDataError, match="were all broken: 'record"):
        run(
            make_records(5, broken=range(5)),
            tokenizer,
            max_broken_fraction=1.0,
            num_workers=num_workers,
        )


class FailingTokenizer:
    pad_id, begin_id, end_id, mask_id = 0, 2, 3, 4
    vocab_size = 10
    special_tokens = dict.fromkeys(range(5), "[SPECIAL]")
    path = "failing"

    def encode(self, text):
        raise ArithmeticError(f"cannot encode {text!r}")


@pytest.mark.parametrize("num_threads", [1, 3])
def test_an_error_in_a_thread_comes_out(make_records, num_threads):
    with pytest.raises(ArithmeticError, match="cannot encode '"):
        run(make_records(8), FailingTokenizer(), num_threads=num_threads)


def test_closing_ends_the_batches(make_records, tokenizer):
    batches = stream(make_records(8), tokenizer)
    next(batches)
    batches.close()
    batches.close()
    assert list(batches) == []


def test_more_rows_than_records_is_warned_of(make_records, tokenizer, caplog):
    run(make_records(5), tokenizer, end_step=1)
    assert "batch_size=8 is more than the 5 training records" in caplog.text


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"batch_size": 9, "count": 2},
            "batch_size=9 does not divide over host_count=2 hosts; use a multiple of 2",
        ),
        ({"batch_size": 0}, "batch_size=0"),
        ({"index": 2, "count": 2}, "host_index=2 must be 0 to host_count - 1 = 1"),
        ({"count": 0}, "host_count=0"),
        ({"image_size": 0}, "config.model.image_size=0 must be at least 1 pixel"),
        ({"text_length": 2}, "config.model.text_length=2 has no room .*; use at least 3"),
        (
            {"max_masked_tokens": -1},
            "config.data.max_masked_tokens=-1 must be in 1 .. text_length - 2 = 8",
        ),
        ({"max_masked_tokens": 9}, "config.data.max_masked_tokens=9 must be in"),
        ({"mask_rate": 0.0}, "config.data.mask_rate=0.0"),
        ({"mask_rate": 1.0}, r"config.data.mask_rate=1.0 must be in \(0, 1\)"),
        ({"mask_rate": 1.5}, "config.data.mask_rate=1.5"),
        ({"crop_scale": (0.5,)}, r"config.data.crop_scale=\(0.5,\) must be two numbers"),
        ({"crop_scale": (0.0, 1.0)}, r"config.data.crop_scale=\(0.0, 1.0\)"),
        ({"crop_scale": (0.8, 0.5)}, "crop_scale"),
        ({"crop_scale": (0.5, 1.2)}, "crop_scale"),
        ({"randaugment": (2, 11)}, r"config.data.randaugment=\(2, 11\)"),
        ({"randaugment": (2,)}, r"config.data.randaugment=\(2,\) must be"),
        ({"color_jitter": (0.4, 0.4, 0.4)}, "config.data.color_jitter=.* must be strengths"),
        ({"color_jitter": (0.4, 0.4, 0.4, 0.6)}, "config.data.color_jitter=.*hue .0 to 0.5"),
        ({"randaugment": (-1, 7)}, "randaugment"),
        (
            {"captions": "all"},
            "config.data.captions='all' is unknown; use one of 'text', 'text_and_keywords'",
        ),
        ({"start_step": 5}, "start_step=5 must be 0 to end_step=4"),
        ({"start_step": -1}, "start_step=-1"),
        ({"seed": -3}, "seed=-3"),
        ({"num_workers": -1}, "config.data.num_workers=-1"),
        ({"num_threads": 0}, "config.data.num_threads=0"),
        ({"prefetch": 0}, "config.data.prefetch=0"),
        ({"max_broken_fraction": 1.5}, "config.data.max_broken_fraction=1.5"),
    ],
)
def test_impossible_arguments_are_refused(make_records, tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        stream(make_records(8), tokenizer, **options)


def test_data_without_records_is_refused(tokenizer):
    with pytest.raises(ValueError, match="no records"):
        stream([], tokenizer)


def test_the_input_room_works_without_jax():
    code = """
import sys
sys.modules.update(jax=None, flax=None)
from vlmo_jax.datasets import open_source
from vlmo_jax.input import benchmark, evaluation, masked_images, masked_texts
from vlmo_jax.input.pairs import PairExamples, PairRows
from vlmo_jax.input.pipeline import stream_batches
from vlmo_jax.input.text.tokenizer import load_tokenizer
source, tokenizer = open_source("emoji", "train"), load_tokenizer("emoji")
maker = PairExamples(source, tokenizer, PairRows(8, 8, 2), seed=0)
with stream_batches(maker, batch_size=4, start_step=0, end_step=1) as batches:
    print(next(batches)["image"].shape, "tensorflow" in sys.modules, "torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "(4, 8, 8, 3) False False", result.stderr
