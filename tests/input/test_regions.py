"""Regions of images: written, read back, put into rows of one size, and refused where they lie."""

import dataclasses

import numpy as np
import pytest

from vlmo_jax.datasets import open_region_source, records, writer
from vlmo_jax.datasets.checking.faults import fault_of
from vlmo_jax.input import pairs
from vlmo_jax.input.attempts import BrokenDataError
from vlmo_jax.input.evaluation import split_batches
from vlmo_jax.input.regions import (
    EvalRegions,
    RegionPairExamples,
    RegionPairRows,
    RegionRows,
    relative_boxes,
)
from vlmo_jax.input.schema import empty_batch
from vlmo_jax.input.text.tokenizer import load_tokenizer

ROWS = RegionRows(num_regions=5, width=6, num_classes=3)


def make_record(number, **changes):
    rng, count = np.random.default_rng(number), 2 + number % 4
    corner = rng.uniform(0, 20, (count, 2)).astype(np.float32)
    record = records.RegionsRecord(
        features=rng.normal(size=(count, 6)).astype(np.float32),
        boxes=np.concatenate([corner, corner + 10], axis=1),
        width=np.int32(40),
        height=np.int32(32),
        classes=rng.random((count, 3), np.float32),
        texts=(f"a red house {number}", "a small cat"),
        keywords=(),
        image_id=f"image {number}",
    )
    return dataclasses.replace(record, **changes)


@pytest.fixture(scope="module", params=[np.float32, np.float16], ids=["float32", "float16"])
def dataset(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("regions") / "made"
    kind = records.regions_kind(6, 3, request.param)
    with writer.DatasetWriter(out, kind=kind, description="for tests") as made:
        for number in range(9):
            made.write("train", make_record(number))
    return out, request.param


def test_records_come_back_as_they_were(dataset):
    out, dtype = dataset
    source = open_region_source(str(out), "train")
    for number in range(9):
        wanted, found = make_record(number), source[number]
        for name in ("features", "classes"):
            array = getattr(found, name)
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, getattr(wanted, name).astype(dtype))
        np.testing.assert_array_equal(found.boxes, wanted.boxes)
        assert (found.texts, found.image_id) == (wanted.texts, wanted.image_id)
        assert (found.width, found.height) == (40, 32)


def test_regions_without_boxes_and_classes_can_be_kept(tmp_path):
    record = make_record(
        1, boxes=np.zeros((0, 4), np.float32), classes=np.zeros((0, 1), np.float32)
    )
    with writer.DatasetWriter(
        tmp_path / "made", kind=records.regions_kind(6), description="for tests"
    ) as made:
        made.write("train", record)
    found = open_region_source(str(tmp_path / "made"), "train")[0]
    assert len(found.boxes) == len(found.classes) == 0
    assert fault_of(records.REGIONS, found) == ""
    np.testing.assert_array_equal(relative_boxes(found), [[0, 0, 1, 1, 1]] * 3)


def test_an_evaluation_reads_all_regions_and_pads(dataset):
    source = open_region_source(str(dataset[0]), "train")
    (batch,) = split_batches(EvalRegions(source, ROWS), batch_size=9)
    for row in range(9):
        record = source[row]
        count = len(record.features)
        assert batch["region_mask"][row].tolist() == [True] * count + [False] * (5 - count)
        np.testing.assert_array_equal(batch["regions"][row, :count], record.features)
        np.testing.assert_array_equal(batch["region_classes"][row, :count], record.classes)
        assert not batch["regions"][row, count:].any() and not batch["boxes"][row, count:].any()
    x1, y1, x2, y2 = source[3].boxes[1]
    wanted = [x1 / 40, y1 / 32, x2 / 40, y2 / 32, (x2 - x1) * (y2 - y1) / (40 * 32)]
    np.testing.assert_allclose(batch["boxes"][3, 1], wanted, rtol=1e-5)


def test_texts_masks_and_ids_are_those_of_pairs(dataset):
    class Pairs(pairs.PairMaker):  # sees nothing
        def write_image(self, batch, row, record, rng):
            pass

    source, tokenizer = open_region_source(str(dataset[0]), "train"), load_tokenizer("emoji")
    rows = RegionPairRows(ROWS, text_length=12, max_masked_tokens=4)
    made = []
    for maker in (Pairs, RegionPairExamples):
        batch = empty_batch(rows.columns, 9)
        for row in range(9):
            maker(source, tokenizer, rows, seed=3).write(batch, row, row, row)
        made.append(batch)
    for name in set(rows.columns) - set(ROWS.columns):
        np.testing.assert_array_equal(made[0][name], made[1][name])
    assert made[1]["region_mask"].any(axis=1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(features=np.zeros((3, 7), np.float32)), "have 7 numbers.*region_width=7"),
        (dict(features=np.zeros((6, 6), np.float32)), "6 regions, more than.*num_regions=6"),
        (dict(features=np.full((3, 6), np.nan, np.float32)), "features hold NaN"),
        (dict(boxes=np.zeros((2, 4), np.float32)), "3 regions and 2 boxes"),
        (dict(boxes=np.full((3, 4), 90, np.float32)), "box 0, 90 90 90 90.*within 40 x 32"),
        (dict(classes=np.zeros((3, 4), np.float32)), "soft classes are"),
    ],
)
def test_records_that_do_not_fit_are_named(changes, message):
    maker = EvalRegions([make_record(1, **changes)], ROWS)
    with pytest.raises(BrokenDataError, match=f"image 1.*{message}"):
        maker.write(empty_batch(maker.columns, 1), 0, 0, 0)
