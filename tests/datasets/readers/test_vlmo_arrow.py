"""Arrow files as VLMo's and ViLT's scripts write them."""

import os
import pickle

import pyarrow as pa
import pytest

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.protocol import LeftOutError
from vlmo_jax.datasets.readers.vlmo_arrow import VlmoArrowReader


def write(path, rows):
    """A file of record batches of two rows."""
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.RecordBatchFileWriter(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def row(image, captions, image_id, split="train", **more):
    return dict(image=image, caption=captions, image_id=image_id, split=split, **more)


@pytest.fixture
def source(tmp_path, encoded_image):
    coco = [row(encoded_image(0), ["a cat ", "a  cat", ""], "a.jpg")]
    coco += [row(encoded_image(i), [f"number {i}"], f"{i}.jpg", "restval") for i in (1, 2)]
    coco += [row(encoded_image(3), [" "], "3.jpg", "val"), row(b"", ["none"], "4.jpg", "val")]
    write(tmp_path / "coco_caption_karpathy_train.arrow", coco)
    regions = [row(encoded_image(i), [f"region {i}"], 7, width=3, x=[1]) for i in (5, 6)]
    write(tmp_path / "vg.arrow", regions)
    write(tmp_path / "vqav2_val.arrow", [{"image": b"", "questions": ["what?"]}])
    return tmp_path


def test_images_with_captions(source, encoded_image):
    reader = VlmoArrowReader(source)
    entries = pickle.loads(pickle.dumps(list(reader.entries())))
    assert [(entry.record_id, entry.split, entry.content) for entry in entries] == [
        ("coco_caption_karpathy_train/a.jpg", "train", ("a cat",)),
        ("coco_caption_karpathy_train/1.jpg", "train", ("number 1",)),
        ("coco_caption_karpathy_train/2.jpg", "train", ("number 2",)),
        ("coco_caption_karpathy_train/4.jpg", "validation", ("none",)),
        ("vg/7", "train", ("region 5",)),
        ("vg/7#1", "train", ("region 6",)),
    ]
    copy = pickle.loads(pickle.dumps(reader))
    for entry, seed in zip(entries, (0, 1, 2, None, 5, 6)):
        if seed is None:
            with pytest.raises(LeftOutError, match="holds no image"):
                copy.load(entry)
        else:
            record = copy.load(entry)
            assert record.image == encoded_image(seed) and record.texts == entry.content
    assert reader.counts() == {
        "train": {
            "blank captions": 1,
            "repeated captions": 1,
            "images": 5,
            "captions": 5,
            "repeated ids": 1,
        },
        "validation": {"blank captions": 1, "images": 1, "captions": 1},
    }
    assert reader.left_out() == {
        "coco_caption_karpathy_train/3.jpg": "no caption",
        "vqav2_val.arrow": "it has no column caption nor image_id, but image, questions",
    }


def test_without_a_column_the_name_tells_the_split(tmp_path, encoded_image):
    plain = {"image": encoded_image(), "caption": "one", "image_id": 1}
    write(tmp_path / "f30k_caption_karpathy_test.arrow", [plain])
    [entry] = VlmoArrowReader(tmp_path).entries()
    assert (entry.split, entry.content) == ("test", ("one",))


def test_damage_is_told_and_nothing_outside_is_read(tmp_path, encoded_image):
    write(tmp_path / "x.arrow", [row(encoded_image(i), [f"number {i}"], i) for i in range(4)])
    whole = (tmp_path / "x.arrow").read_bytes()
    offsets = whole.index(len(encoded_image(0)).to_bytes(4, "little"))  # where the second begins
    damaged = bytearray(whole)
    damaged[offsets : offsets + 4] = (2**31 - 1).to_bytes(4, "little")
    for data in (
        bytes(damaged),
        whole[: len(whole) // 2],
        whole.replace(b"caption", b"c\xffption"),
    ):
        (tmp_path / "x.arrow").write_bytes(data)
        with pytest.raises(DataError, match="x.arrow was cut, is damaged, or is no table"):
            list(VlmoArrowReader(tmp_path).entries())


def test_refusals(source, tmp_path):
    os.truncate(source / "vg.arrow", 400)
    with pytest.raises(DataError, match="vg.arrow was cut, is damaged, or is no"):
        list(VlmoArrowReader(source).entries())
    for name in ("vg", "coco_caption_karpathy_train"):
        (source / f"{name}.arrow").unlink()
    with pytest.raises(MissingDataError, match="no Arrow file .* columns image, caption, image_id"):
        list(VlmoArrowReader(source).entries())
    write(source / "odd.arrow", [row(b"", ["x"], 1, split="to be done")])
    with pytest.raises(DataError, match="odd.arrow has split 'to be done', which is no name"):
        list(VlmoArrowReader(source).entries())
