import json

import pytest

from tests.datasets.readers import downloads
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers import annot_json

IMAGES = {"images_train/0000/0000001": "JPEG", "images_val/0000/0000000": "PNG"}


@pytest.fixture
def gcc(tmp_path):
    return downloads.unpack("annot_json", tmp_path / "gcc", IMAGES)


def test_conceptual_captions(gcc):
    reader = annot_json.AnnotJsonReader(gcc)
    found, missing = downloads.read(reader)
    assert {name: record.texts for name, record in found.items()} == {
        "cc3m/images_train/0000/0000001": ("sierra looked stunning",),
        "cc3m/images_val/0000/0000000": ("a life in photography",),
    }
    assert missing == {
        "cc3m/images_train/0000/0000000": "images_train/0000/0000000: there is no such file"
    }
    assert reader.counts() == {
        "train": {"images": 2, "captions": 2},
        "validation": {"images": 1, "captions": 1},
    }
    assert reader.published == {"train": {"images": 3_318_333}, "validation": {"images": 15_840}}
    assert reader.sources() == [gcc / "train_annot.json", gcc / "val_annot.json"]


def test_sbu(gcc):
    (gcc / "train_annot.json").rename(gcc / "annot.json")
    with pytest.raises(DataError, match="of CC3M and of SBU; keep each in a folder of its own"):
        annot_json.AnnotJsonReader(gcc)
    (gcc / "val_annot.json").unlink()
    reader = annot_json.AnnotJsonReader(gcc)
    assert downloads.splits(reader) == {
        "train": ["sbu/images_train/0000/0000000", "sbu/images_train/0000/0000001"]
    }
    assert reader.published == {"train": {"images": 1_000_000}}


@pytest.mark.parametrize(
    "pairs, message",
    [
        ([["images_train/a", "x"], "b"], "entry 2 is 'b'; it must be .path, caption."),
        ([["images_train/a"]], "entry 1 is .*; it must be"),
        ([["images_train/a", 3]], "entry 1 has 3 where a caption must be"),
        ([[3, "a"]], "entry 1 has 3 where a path must be"),
        (
            [["images_train/a", "x"], ["images_train/a", "y"]],
            "entry 2 is about image cc3m/images_train/a, and so is .* entry 1; take",
        ),
    ],
)
def test_what_is_wrong_is_named(gcc, pairs, message):
    (gcc / "train_annot.json").write_text(json.dumps(pairs))
    with pytest.raises(DataError, match=message):
        list(annot_json.AnnotJsonReader(gcc).entries())


def test_files_that_are_not_there(tmp_path, gcc):
    with pytest.raises(MissingDataError, match="has no train_annot.json, val_annot.json, annot"):
        annot_json.AnnotJsonReader(tmp_path)
    (gcc / "images_train").rename(gcc / "pictures")
    with pytest.raises(MissingDataError, match="has no images_train; put the folder of images"):
        list(annot_json.AnnotJsonReader(gcc).entries())
