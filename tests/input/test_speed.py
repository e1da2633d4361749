"""What is measured of a pipeline: batches that are made while it is measured."""

import time

import numpy as np
import pytest

from vlmo_jax.input import speed
from vlmo_jax.input.attempts import Report
from vlmo_jax.input.images import pixels
from vlmo_jax.input.pairs import PairExamples, PairRows
from vlmo_jax.input.pipeline import Loading, stream_batches
from vlmo_jax.input.schema import Column

SECONDS_A_ROW = 0.004


class SlowRows:
    """Rows that take a given time each."""

    source = range(100)
    columns = {"number": Column((), np.int32)}
    seed = 0

    def write(self, batch, row, position, index):
        time.sleep(SECONDS_A_ROW)
        batch["number"][row] = index
        return Report(seen=1)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_batches_that_were_ready_do_not_count(num_threads):
    loading = Loading(num_threads=num_threads, prefetch=6)
    batches = stream_batches(SlowRows(), batch_size=4, start_step=0, end_step=1000, loading=loading)
    time.sleep(8 * 4 * SECONDS_A_ROW)  # all that may be ready is
    with batches:
        rate = speed.measure_rate(batches, ready=loading.most_ready, seconds=0.0)
    assert rate.batches == speed.LEAST_BATCHES
    assert rate.records_per_second < num_threads / SECONDS_A_ROW


def test_processor_time_is_told_by_the_work(make_records, tokenizer):
    maker = PairExamples(make_records(6), tokenizer, PairRows(64, 8, 3), seed=0)
    batches = stream_batches(maker, batch_size=4, start_step=0, end_step=10**6)
    measured = speed.measure_speed(batches, seconds=0.1)
    assert sum(measured.parts.values()) == pytest.approx(measured.alone)
    assert {"decode", "crop, resize, flip", "RandAugment"} <= measured.parts.keys()
    # What all threads together do for a record is more than what one does that does it all alone.
    assert measured.rate.busy > measured.rate.taking > 0
    table = dict(speed.format_speed(measured))
    assert "records/s" in table["all, one thread"] and "a core; here" in table["all, pipeline"]


def test_what_other_packages_do_counts_for_those_who_asked(make_records, tokenizer, monkeypatch):
    def slow(image):
        time.sleep(0.002)
        return image

    monkeypatch.setattr(pixels, "flip_horizontally", slow)
    maker = PairExamples(make_records(6), tokenizer, PairRows(8, 8, 3), seed=0)
    batches = stream_batches(maker, batch_size=4, start_step=0, end_step=10**6)
    with batches:
        pass
    # Of a function that this package has not: its caller, the drawing of views.
    _, parts = speed.measure_parts(batches.step, 0.05)
    assert max(parts, key=parts.get) == "rows, batches"
