import json

import pytest

from tests.datasets.readers import downloads
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers import coco_captions

IMAGES = {
    "images/train2014/COCO_train2014_000000000009.jpg": "JPEG",
    "images/train2014/COCO_train2014_000000000025.jpg": "PNG",
    "images/val2014/COCO_val2014_000000391895.jpg": "JPEG",
}


@pytest.fixture
def coco(tmp_path):
    return downloads.unpack("coco_captions", tmp_path / "coco", IMAGES)


def test_coco(coco):
    reader = coco_captions.CocoCaptionsReader(coco)
    found, missing = downloads.read(reader)
    assert {name: record.texts for name, record in found.items()} == {
        "coco/9": ("A meal.",),
        "coco/25": ("A giraffe.", "Two giraffes."),
    }
    assert list(missing) == ["coco/42"]
    assert reader.left_out() == {"coco/391895": "no caption"}
    assert reader.counts() == {
        "train": {"images": 2, "captions": 3},
        "validation": {"images": 1, "captions": 1},
    }
    assert reader.published == {
        "train": {"images": 82_783, "captions": 414_113},
        "validation": {"images": 40_504, "captions": 202_654},
    }


def test_one_file_is_enough_and_one_year_only(coco):
    (coco / "annotations/captions_val2014.json").unlink()
    reader = coco_captions.CocoCaptionsReader(coco)
    assert list(reader.published) == list(downloads.splits(reader)) == ["train"]
    (coco / "annotations/captions_val2017.json").write_text("{}")
    with pytest.raises(DataError, match="val2017.json are about the same images; move one away"):
        coco_captions.CocoCaptionsReader(coco)


def test_2017(coco):
    (coco / "annotations/captions_val2014.json").unlink()
    (coco / "annotations/captions_train2014.json").rename(coco / "captions_train2017.json")
    reader = coco_captions.CocoCaptionsReader(coco)
    assert reader.published == {}
    with pytest.raises(MissingDataError, match="has no folder train2017"):
        list(reader.entries())
    (coco / "images/train2014").rename(coco / "train2017")
    assert len(downloads.read(reader)[0]) == 2


def _edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d["annotations"][0].update(image_id=7), "annotations 1 is about image 7, which"),
        (lambda d: d["annotations"][1].pop("caption"), "annotations 2 has no caption; is it"),
        (lambda d: d["images"].append(d["images"][0]), "images 3 is about .*/9, and so is .*s 1;"),
        (lambda d: d.pop("annotations"), "has no list 'annotations', only info, images, licenses"),
    ],
)
def test_what_is_wrong_is_named(coco, change, message):
    _edit(coco / "annotations/captions_train2014.json", change)
    with pytest.raises(DataError, match=message):
        list(coco_captions.CocoCaptionsReader(coco).entries())


def test_order_of_the_lists_does_not_matter(coco):
    path = coco / "annotations/captions_train2014.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(dict(sorted(document.items()))))
    assert coco_captions.CocoCaptionsReader(coco).entries()
    found, _ = downloads.read(coco_captions.CocoCaptionsReader(coco))
    assert found["coco/25"].texts == ("A giraffe.", "Two giraffes.")


def test_nocaps(tmp_path):
    folder = downloads.unpack("nocaps", tmp_path / "n", {"val/0013ea2087020901.jpg": "JPEG"})
    reader = coco_captions.NocapsReader(folder)
    found, missing = downloads.read(reader)
    assert found["nocaps/0"].texts == ("Caption 0.", "Caption 2.")
    assert missing == {"nocaps/1": "00c5e8ee2b8ac8a0.jpg is missing"}
    assert reader.counts() == {"validation": {"images": 2, "captions": 4}}
    (folder / "val/0013ea2087020901.jpg").unlink()
    with pytest.raises(MissingDataError, match="has no images; put those of NoCaps there"):
        list(reader.entries())


def test_folders_without_files(tmp_path):
    with pytest.raises(
        MissingDataError, match="has no captions_train2014.json or captions_val2014"
    ):
        coco_captions.CocoCaptionsReader(tmp_path)
    with pytest.raises(MissingDataError, match="has no nocaps_val_4500_captions.json"):
        coco_captions.NocapsReader(tmp_path)
