"""Regions as SCAN and the bottom-up detector give them: read right, and refused where they lie."""

import base64
import json

import numpy as np
import pytest

from vlmo_jax.datasets import build, open_region_source
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.region_arrays import PrecompReader
from vlmo_jax.datasets.readers.region_tables import BottomUpReader

R, F = 3, 4


def features(images, seed=0):
    return np.random.default_rng(seed).random((images, R, F), np.float32)


def precomp(folder, **splits):
    """A folder of SCAN's files, {split: (images, captions)}."""
    folder.mkdir(exist_ok=True)
    for name, (images, captions) in splits.items():
        np.save(folder / f"{name}_ims.npy", features(images))
        lines = [f"{name} caption {number}\n" for number in range(captions)]
        (folder / f"{name}_caps.txt").write_text("".join(lines))
    return folder


def read(reader):
    return {entry.record_id: reader.load(entry) for entry in reader.entries()}


def test_five_captions_in_a_row_are_of_one_image(tmp_path):
    source = precomp(tmp_path / "p", train=(4, 20), dev=(1100, 5500))
    (source / "train_ids.txt").write_text("".join(f"{7 * n // 5}\n" for n in range(0, 100, 5)))
    found = read(PrecompReader(source))
    assert len(found) == 4 + 1000  # of dev the first 5,000 captions
    ids = [name for name in found if name.startswith("train")]
    assert ids == ["train/0", "train/35", "train/70", "train/105"]
    record = found["train/70"]
    assert record.texts == tuple(f"train caption {n}" for n in range(10, 15))
    np.testing.assert_array_equal(record.features, features(4)[2])
    assert len(read(PrecompReader(source, whole_dev="yes"))) == 4 + 1100


def test_as_many_arrays_as_captions_are_one_each(tmp_path):
    source = precomp(tmp_path / "p", test=(10, 10))
    (source / "test_ids.txt").write_text("".join(f"{n // 5}\n" for n in range(10)))
    found = read(PrecompReader(source, dtype="float16"))
    assert [record.texts for record in found.values()] == [
        (f"test caption {n}",) for n in range(10)
    ]
    assert list(found)[6] == "test/1#6"


def test_arrays_become_a_data_set(tmp_path):
    source = precomp(tmp_path / "p", train=(3, 15))
    build.main([str(source), str(tmp_path / "out"), "--format=precomp", "--option=dtype=float16"])
    records = open_region_source(str(tmp_path / "out"), "train")
    assert len(records) == 3
    np.testing.assert_array_equal(records[1].features, features(3)[1].astype(np.float16))


def test_arrays_that_disagree_are_refused(tmp_path):
    source = precomp(tmp_path / "p", train=(3, 16))
    with pytest.raises(DataError, match="has 3 images and .*train_caps.txt 16 captions, neither"):
        read(PrecompReader(source))
    precomp(source, train=(3, 15))
    (source / "train_ids.txt").write_text("1\n2\n")
    with pytest.raises(DataError, match="train_ids.txt has 2 ids for 3 images and 15 captions"):
        read(PrecompReader(source))
    np.save(source / "test_ims.npy", np.zeros((2, R, F + 1), np.float32))
    with pytest.raises(DataError, match="different widths, {'train': 4, 'test': 5}"):
        PrecompReader(source)
    np.save(source / "test_ims.npy", np.zeros((2, F)))
    with pytest.raises(DataError, match=r"holds float64 \(2, 4\); regions are float32"):
        PrecompReader(source)
    (source / "test_ims.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="test_ims.npy is no whole .npy file"):
        PrecompReader(source)
    with pytest.raises(MissingDataError, match="has none of train_ims.npy"):
        PrecompReader(tmp_path)


def test_not_a_number_leaves_a_record_out(tmp_path):
    source = precomp(tmp_path / "p", train=(3, 15))
    array = np.load(source / "train_ims.npy")
    array[1, 2, 3] = np.nan
    np.save(source / "train_nan_ims.npy", array)
    (source / "train_nan_ims.npy").replace(source / "train_ims.npy")
    reader = PrecompReader(source)
    entries = list(reader.entries())
    reader.load(entries[0])
    with pytest.raises(DataError, match="row 1: its features hold NaN"):
        reader.load(entries[1])


def line(image_id, count=R, **changes):
    encode = lambda array: base64.b64encode(np.asarray(array, np.float32).tobytes()).decode()
    values = {
        "image_id": image_id,
        "image_w": 40,
        "image_h": 30,
        "num_boxes": count,
        "boxes": encode(np.tile([1, 2, 11, 12], (count, 1))),
        "features": encode(features(1)[0, :1].repeat(count, 0)),
    }
    return "\t".join(str(value) for value in {**values, **changes}.values()) + "\n"


def tables(folder, *lines):
    folder.mkdir(exist_ok=True)
    (folder / "a.tsv").write_text("".join(lines))
    captions = [
        {"image_id": "7", "captions": ["a cat", "a red cat"], "split": "val"},
        {"image_id": 9, "captions": ["a dog"]},
        {"image_id": "10", "captions": ["nothing"]},
    ]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in captions))
    return folder


def test_a_table_is_read_line_by_line(tmp_path):
    source = tables(tmp_path / "t", line("7"), line("8"), line("9", count=2))
    reader = BottomUpReader(source)
    found = read(reader)
    assert {name: record.texts for name, record in found.items()} == {
        "7": ("a cat", "a red cat"),
        "9": ("a dog",),
    }
    assert found["9"].features.shape == (2, F) and found["7"].boxes.tolist()[0] == [1, 2, 11, 12]
    assert (found["7"].width, found["7"].height) == (40, 30)
    assert [entry.split for entry in BottomUpReader(source).entries()] == ["validation", "train"]
    assert reader.left_out() == {"8": f"it has no caption in {source / 'captions.jsonl'}"}


def test_captions_of_karpathys_file(tmp_path):
    source = tables(tmp_path / "t", line("7"))
    (source / "captions.jsonl").unlink()
    image = {"filename": "a.jpg", "cocoid": 7, "split": "restval", "sentences": [{"raw": "a cat"}]}
    (source / "dataset_coco.json").write_text(json.dumps({"images": [image]}))
    (entry,) = BottomUpReader(source).entries()
    assert (entry.split, entry.content) == ("train", ("a cat",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_boxes=4), "line 2: 12 numbers are not those of num_boxes=4 boxes"),
        (dict(num_boxes="many"), "line 2: image_w, image_h and num_boxes must be whole"),
        (dict(num_boxes=0), "line 2: num_boxes=0 must be 1 to"),
        (dict(features="AAAA"), "features has 3 bytes"),
        (dict(features="AAAAAA=="), "1 numbers of features do not divide"),
        (dict(features="?"), "features is not base64"),
        (dict(extra=1), "line 2 has 7 columns, not 6: image_id, image_w"),
        (dict(image_w=5), "line 2: its box 0, 1 2 11 12, is none of x1 y1 x2 y2 within 5 x 30"),
    ],
)
def test_lines_that_make_no_sense_are_named(tmp_path, changes, message):
    source = tables(tmp_path / "t", line("7"), line("9", **changes))
    reader = BottomUpReader(source)
    with pytest.raises(DataError, match=message):
        read(reader)
