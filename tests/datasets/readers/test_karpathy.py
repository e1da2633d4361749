import json
import os

import pytest

from tests.datasets.readers import downloads
from vlmo_jax.datasets import images, records
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers import karpathy
from vlmo_jax.datasets.readers.coco_ids import coco_id_of

COCO_IMAGES = {
    "val2014/COCO_val2014_000000391895.jpg": "JPEG",
    "val2014/COCO_val2014_000000522418.jpg": "PNG",
    "val2014/COCO_val2014_000000184613.jpg": "JPEG",
    "train2014/COCO_train2014_000000000009.jpg": "JPEG",
    "train2014/COCO_train2014_000000000025.jpg": "JPEG",
}


@pytest.fixture
def coco(tmp_path):
    return downloads.unpack("coco_karpathy", tmp_path / "coco", COCO_IMAGES)


def _edit(folder, change):
    """Changes the list of images in a folder's file."""
    (path,) = folder.glob("**/dataset_*.json")
    document = json.loads(path.read_text())
    change(document["images"])
    path.write_text(json.dumps(document))
    return path


def test_coco(coco):
    reader = karpathy.CocoKarpathyReader(coco)
    assert downloads.splits(reader) == {
        "test": ["coco/391895", "coco/42"],
        "validation": ["coco/522418"],
        "train": ["coco/184613", "coco/9", "coco/25"],
    }
    assert reader.counts() == {
        "test": {"images": 2, "captions": 11},
        "validation": {"images": 1, "captions": 5},
        "train": {"images": 3, "captions": 16, "blank captions": 1},
    }
    assert reader.published["train"] == {"images": 113_287, "captions": 566_747}
    assert reader.sources() == [coco / "dataset_coco.json"]
    assert reader.left_out() == {}
    found, missing = downloads.read(reader)
    assert missing == {"coco/42": "val2014/COCO_val2014_000000000042.jpg: there is no such file"}
    name = "val2014/COCO_val2014_000000391895.jpg"
    assert found["coco/391895"] == records.Record(
        (coco / name).read_bytes(),
        (
            "A man with a red helmet on a small moped.",
            "A man rides a moped.",
            "The  man is on a dirt road.",
            "a man",
            "A man.",
            "A man, once more",
        ),
        (),
        "coco/391895",
    )
    assert found["coco/184613"].texts[-2:] == ("A boy.", "A boy.")
    assert images.read_header(found["coco/522418"].image)[0] == "PNG"
    assert coco_id_of("coco/391895") == 391895


def test_a_second_reading_counts_anew(coco):
    reader = karpathy.CocoKarpathyReader(coco)
    assert list(reader.entries()) == list(reader.entries())
    assert reader.counts()["test"] == {"images": 2, "captions": 11}


def test_some_splits_need_no_images_of_others(coco):
    for path in (coco / "train2014").iterdir():
        path.unlink()
    (coco / "train2014").rmdir()
    reader = karpathy.CocoKarpathyReader(coco, splits="test")
    assert downloads.splits(reader) == {"test": ["coco/391895", "coco/42"]}
    assert reader.published == {"test": {"images": 5_000, "captions": 25_010}}
    with pytest.raises(MissingDataError, match="has no folder train2014, .* unpack the images"):
        list(karpathy.CocoKarpathyReader(coco).entries())
    with pytest.raises(DataError, match="splits=test,val: there is no 'val', only train, vali"):
        karpathy.CocoKarpathyReader(coco, splits="test,val")


def test_images_may_lie_one_folder_below(coco):
    (coco / "images").mkdir()
    for part in ("train2014", "val2014"):
        (coco / part).rename(coco / "images" / part)
    found, missing = downloads.read(karpathy.CocoKarpathyReader(coco))
    assert (len(found), list(missing)) == (5, ["coco/42"])


def test_flickr(tmp_path):
    images_of = {f"flickr30k-images/{n}.jpg": "JPEG" for n in (1000092795, 1007129816)}
    folder = downloads.unpack("flickr30k_karpathy", tmp_path / "f", images_of)
    (folder / "flickr30k-images/1000268201.jpg").symlink_to("gone.jpg")
    reader = karpathy.Flickr30kKarpathyReader(folder)
    found, missing = downloads.read(reader)
    assert list(found) == ["flickr30k/1000092795", "flickr30k/1007129816"]
    assert missing == {
        "flickr30k/1000268201": "flickr30k-images/1000268201.jpg: a link to gone.jpg, which is"
        " not there"
    }
    assert reader.counts()["validation"] == {"images": 1, "captions": 5}
    assert reader.published["validation"] == {"images": 1_014, "captions": 5_070}


def test_flickr8k_has_the_same_form(tmp_path):
    folder = downloads.unpack(
        "flickr30k_karpathy", tmp_path / "f", {"Flicker8k_Dataset/1000092795.jpg": "JPEG"}
    )
    (folder / "karpathy/dataset_flickr30k.json").rename(folder / "dataset_flickr8k.json")
    found, missing = downloads.read(karpathy.Flickr8kKarpathyReader(folder))
    assert (list(found), len(missing)) == (["flickr8k/1000092795"], 2)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda i: i[1].update(split="dev"), "images 2 has split 'dev'; known are train, restval"),
        (lambda i: i[1].pop("split"), "images 2 has no key split"),
        (lambda i: i[1].update(cocoid=None), "images 2 has cocoid=None"),
        (lambda i: i[1].update(filename=""), "images 2 has filename=''"),
        (lambda i: i[1].update(sentences="a"), "images 2 has sentences='a', which is no list"),
        (lambda i: i[1].update(sentences=["a"]), "images 2 has the sentence 'a'"),
        (lambda i: i[1]["sentences"][0].update(raw=3), "has 3 where a caption must be"),
        (lambda i: i[1]["sentences"][0].update(raw="\ud83d"), "half a character"),
        (
            lambda i: i[2].update(cocoid=391895),
            r"images 3 is about image coco/391895, and so is .* images 1; take one",
        ),
    ],
)
def test_what_is_wrong_is_named(coco, change, message):
    path = _edit(coco, change)
    with pytest.raises(DataError, match=message) as error:
        list(karpathy.CocoKarpathyReader(coco).entries())
    assert str(path) in str(error.value)


def test_an_image_without_captions_is_left_out(coco):
    _edit(coco, lambda i: i[4].update(sentences=[]))
    reader = karpathy.CocoKarpathyReader(coco)
    assert downloads.splits(reader)["test"] == ["coco/391895"]
    assert reader.counts()["test"] == {"images": 1, "captions": 6}
    assert reader.left_out() == {"coco/42": "no caption"}


def test_files_that_are_not_there(tmp_path, coco):
    with pytest.raises(MissingDataError, match="has no dataset_flickr30k.json, .*caption_datasets"):
        karpathy.Flickr30kKarpathyReader(coco)
    with pytest.raises(MissingDataError, match="is no folder"):
        karpathy.CocoKarpathyReader(tmp_path / "none")
    for name in ("a", "b"):
        (coco / name).mkdir()
        (coco / name / "dataset_coco.json").write_text("{}")
    assert karpathy.CocoKarpathyReader(coco).sources() == [coco / "dataset_coco.json"]
    (coco / "dataset_coco.json").unlink()
    with pytest.raises(DataError, match="has .*a/dataset_coco.json and .*b/dataset_coco.json"):
        karpathy.CocoKarpathyReader(coco)


@pytest.mark.parametrize("how", ["folder", "text", "empty", "fifo"])
def test_what_is_no_image_is_left_out(coco, how):
    path = coco / "val2014/COCO_val2014_000000000042.jpg"
    make = {
        "folder": path.mkdir,
        "text": lambda: path.write_text("<html>"),
        "empty": path.touch,
        "fifo": lambda: os.mkfifo(path),
    }
    make[how]()
    _, missing = downloads.read(karpathy.CocoKarpathyReader(coco))
    assert list(missing) == ["coco/42"]
    assert missing["coco/42"].startswith("val2014/COCO_val2014_000000000042.jpg")


def test_images_of_the_evaluation_are_known(coco):
    found = karpathy.coco_evaluation_images(coco / "dataset_coco.json")
    assert found == {391895: "test", 522418: "validation", 42: "test"}
