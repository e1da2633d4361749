"""Images in folders and tars, such as ImageNet's, in all the ways in which they come."""

import io
import os
import pickle
import struct
import zlib

import pytest
from PIL import Image

from tests.datasets.readers.archives import write_tar
from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.image_files import ImageFilesReader
from vlmo_jax.datasets.readers.protocol import LeftOutError


def read(root):
    """The reader, and {id: (split, record)} of all its entries."""
    reader = ImageFilesReader(root)
    entries = list(reader.entries())
    copy = pickle.loads(pickle.dumps(reader))
    entries = pickle.loads(pickle.dumps(entries))
    return reader, {entry.record_id: (entry.split, copy.load(entry)) for entry in entries}


def splits(found):
    return {name: split for name, (split, _) in found.items()}


def write(root, path, data):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def cmyk():
    file = io.BytesIO()
    Image.new("CMYK", (9, 7), (10, 200, 30, 5)).save(file, "JPEG")
    return file.getvalue()


def bomb():
    """A PNG of a few bytes that says it has a billion pixels a side."""
    head = struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n\0\0\0\x0d"
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\0\0IDAT"
    )


def test_imagenet_unpacked(tmp_path, encoded_image):
    write(tmp_path, "train/n01440764/n01440764_10026.JPEG", encoded_image(0, "JPEG"))
    write(tmp_path, "train/n01440764/n01440764_10027.JPEG", cmyk())
    write(tmp_path, "train/n02105855/n02105855_2933.JPEG", encoded_image(1, "PNG"))
    write(tmp_path, "val/n01440764/ILSVRC2012_val_00000293.JPEG", encoded_image(2, "JPEG"))
    write(tmp_path, "LOC_synset_mapping.txt", b"n01440764 tench")
    write(tmp_path, "train/.hidden/x.jpg", b"")
    reader, found = read(tmp_path)
    assert splits(found) == {
        "train/n01440764/n01440764_10026": "train",
        "train/n01440764/n01440764_10027": "train",
        "train/n02105855/n02105855_2933": "train",
        "val/n01440764/ILSVRC2012_val_00000293": "validation",
    }
    record = found["train/n01440764/n01440764_10027"][1]
    assert record.image == cmyk() and record.texts == () and record.image_id.endswith("10027")
    assert reader.kind is records.BARE_IMAGES
    assert reader.counts() == {"train": {"images": 3}, "validation": {"images": 1}}
    assert reader.left_out() == {} and reader.sources() == []


def test_imagenet_as_it_comes(tmp_path, encoded_image):
    images = [encoded_image(i, "JPEG") for i in range(4)]
    tench = write_tar(tmp_path / "x", [("n01440764_2.JPEG", images[0])])
    dog = write_tar(tmp_path / "y", [("n02105855_9.JPEG", images[1]), ("._n0.JPEG", b"a Mac's")])
    classes = [("n01440764.tar", tench.read_bytes()), ("n02105855.tar", dog.read_bytes())]
    write_tar(tmp_path / "in" / "ILSVRC2012_img_train.tar", classes)
    val = [(f"ILSVRC2012_val_0000000{i}.JPEG", images[i]) for i in (2, 3)]
    write_tar(tmp_path / "in" / "ILSVRC2012_img_val.tar", val)
    reader, found = read(tmp_path / "in")
    assert splits(found) == {
        "ILSVRC2012_img_train/n01440764/n01440764_2": "train",
        "ILSVRC2012_img_train/n02105855/n02105855_9": "train",
        "ILSVRC2012_img_val/ILSVRC2012_val_00000002": "validation",
        "ILSVRC2012_img_val/ILSVRC2012_val_00000003": "validation",
    }
    assert [record.image for _, record in found.values()] == images
    assert reader.left_out() == {}


def test_imagenet_22k_is_a_tar_a_synset(tmp_path, encoded_image):
    for synset in ("n00004475", "n00005787"):
        write_tar(tmp_path / f"{synset}.tar", [(f"{synset}_1.JPEG", encoded_image(0, "JPEG"))])
    write(tmp_path, "n00004475/n00004475_1.JPEG", encoded_image(3, "JPEG"))
    _, found = read(tmp_path)
    assert splits(found) == {
        "n00004475.tar/n00004475_1": "train",
        "n00005787/n00005787_1": "train",
        "n00004475/n00004475_1": "train",
    }


def test_splits_are_seen_below_other_folders_and_in_tars(tmp_path, encoded_image):
    for split in ("train", "val", "Test"):
        write(tmp_path, f"ILSVRC/Data/CLS-LOC/{split}/n1/a.png", encoded_image())
    write_tar(tmp_path / "all.tar", [("data/test/n1/b.png", encoded_image()), ("c.png", b"x")])
    reader = ImageFilesReader(tmp_path)
    assert {entry.record_id: entry.split for entry in reader.entries()} == {
        "ILSVRC/Data/CLS-LOC/train/n1/a": "train",
        "ILSVRC/Data/CLS-LOC/val/n1/a": "validation",
        "ILSVRC/Data/CLS-LOC/Test/n1/a": "test",
        "all/data/test/n1/b": "test",
        "all/c": "train",
    }


def test_images_that_differ_by_their_endings_keep_them(tmp_path, encoded_image):
    for name in ("a.png", "a.jpg", "b.png"):
        write(tmp_path, name, encoded_image())
    _, found = read(tmp_path)
    assert sorted(found) == ["a.jpg", "a.png", "b"]


def test_what_cannot_be_used_is_named_when_it_is_loaded(tmp_path, encoded_image):
    write(tmp_path, "1.png", b"")
    write(tmp_path, "2.png", b"<html></html>")
    write(tmp_path, "3.png", encoded_image()[:60])
    write(tmp_path, "4.png", bomb())
    os.symlink(tmp_path / "nowhere.png", tmp_path / "5.png")
    os.mkfifo(tmp_path / "6.png")
    os.symlink(tmp_path, tmp_path / "circle")
    reader = ImageFilesReader(tmp_path)
    reasons = {}
    for entry in reader.entries():
        with pytest.raises(LeftOutError) as error:
            reader.load(entry)
        reasons[entry.record_id] = str(error.value)
    expected = ("empty", "cannot identify", "", "too many pixels", "is not there", "no regular")
    assert list(reasons) == list("123456")
    for (name, reason), part in zip(reasons.items(), expected):
        assert part in reason, name


def test_cut_tars_are_told_within_others_too(tmp_path, encoded_image):
    inner = write_tar(tmp_path / "x", [("1.png", encoded_image(1)), ("2.png", encoded_image(2))])
    cut = inner.read_bytes()[:1700]
    write_tar(tmp_path / "in" / "a.tar", [("n1.tar", cut), ("../n2.png", b""), ("3.png", b"3")])
    reader = ImageFilesReader(tmp_path / "in")
    assert [entry.record_id for entry in reader.entries()] == ["a/3", "a/n1/1"]
    assert reader.counts() == {"train": {"images": 2, "cut or damaged tars": 1}}
    assert reader.left_out() == {
        "a.tar: ../n2.png": "its name leads out of the tar",
        "a.tar/n1.tar": f"it was cut at byte {512 + 1700:,}; what comes before is used",
    }


def test_refusals(tmp_path):
    with pytest.raises(MissingDataError, match="holds no images, subfolders and tars included"):
        list(ImageFilesReader(tmp_path).entries())
    with pytest.raises(MissingDataError, match="is no folder"):
        ImageFilesReader(tmp_path / "none")
    write(tmp_path, "a/x.tgz", b"")
    with pytest.raises(DataError, match="x.tgz is packed, .*gunzip"):
        list(ImageFilesReader(tmp_path).entries())
    (tmp_path / "a" / "x.tgz").unlink()
    write(tmp_path, "a/caf\udce9.jpg", b"")
    with pytest.raises(DataError, match=r"a/caf\\udce9.jpg has a name that is not UTF-8"):
        list(ImageFilesReader(tmp_path).entries())


def test_what_is_called_a_tar_within_a_tar_and_is_none_is_named(tmp_path, encoded_image):
    write_tar(tmp_path / "a.tar", [("n1.tar", b"no tar")])
    reason = r"a.tar/n1.tar: it was cut at byte 518"
    with pytest.raises(MissingDataError, match=rf"holds no images, .* \({reason}"):
        list(ImageFilesReader(tmp_path).entries())
    write(tmp_path, "1.png", encoded_image())
    reader = ImageFilesReader(tmp_path)
    assert len(list(reader.entries())) == 1 and list(reader.left_out()) == ["a.tar/n1.tar"]
