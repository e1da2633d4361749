"""Records are known by what they are and their order, not by where they lie."""

import dataclasses
import shutil

import numpy as np
import pytest

from vlmo_jax.datasets import writer
from vlmo_jax.datasets.identity import SAMPLE, identify
from vlmo_jax.datasets.records import Record
from vlmo_jax.datasets.sources import open_source

RECORDS = [Record(f"image {n}".encode(), (f"a text {n}",), ("a", "b"), str(n)) for n in range(9)]


def write(out, records, **options):
    with writer.DatasetWriter(out, description="for tests", **options) as dataset:
        for record in records:
            dataset.write("train", record)
    return identify(open_source(str(out), "train"))


def test_the_same_records_elsewhere_and_in_other_shards_are_the_same(tmp_path):
    first = write(tmp_path / "data", RECORDS)
    assert first["records"] == 9 and first["bytes"] > 9 * 20
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    assert identify(open_source(str(tmp_path / "copy"), "train")) == first
    assert write(tmp_path / "other", RECORDS, shard_bytes=100) == first


@pytest.mark.parametrize(
    "change",
    [
        lambda records: records[:-1],
        lambda records: records[::-1],
        lambda records: [dataclasses.replace(records[0], texts=("a text 1",)), *records[1:]],
        lambda records: [*records[:8], dataclasses.replace(records[8], image=b"image 9")],
        lambda records: [dataclasses.replace(records[0], keywords=("ab",)), *records[1:]],
        lambda records: [dataclasses.replace(records[0], texts=("a text 0", "a")), *records[1:]],
    ],
)
def test_other_records_are_others(tmp_path, change):
    assert write(tmp_path / "other", change(RECORDS)) != write(tmp_path / "data", RECORDS)


def test_of_many_records_some_are_read_and_the_bytes_counted():
    class Counted(list):
        num_bytes = 0

        def __getitem__(self, index):
            read.add(index)
            return super().__getitem__(index)

    read = set()
    source = Counted(np.arange(100_000))
    first = identify(source)
    assert len(read) == SAMPLE and {0, 99_999} < read
    source.num_bytes = 1
    assert identify(source) != first
    assert identify([]) == identify(())
