"""Tars of samples that img2dataset did not write."""

import os
import pickle

import pytest

from tests.datasets.readers.archives import files_of, write_tar
from vlmo_jax.datasets.errors import MissingDataError
from vlmo_jax.datasets.readers.webdataset import WebdatasetImagesReader, WebdatasetReader


def read(root, reader_class=WebdatasetReader):
    """The reader, and {id: (split, record)} of all its entries."""
    reader = reader_class(root)
    entries = list(reader.entries())
    copy = pickle.loads(pickle.dumps(reader))
    return reader, {entry.record_id: (entry.split, copy.load(entry)) for entry in entries}


@pytest.fixture
def source(tmp_path, encoded_image):
    """Two tars as the mirrors of CC3M name them; no stats, gaps, odd names."""
    members = [*files_of("000000002", encoded_image), ("notes/._x.jpg", b"a Mac's")]
    members += [("sub/7.json", b'{"captions": ["one", " ", "two  words", "one"]}')]
    members += [("sub/7.PNG", encoded_image(7)), ("sub/8.webp", encoded_image(8))]
    write_tar(tmp_path / "cc3m-train-0000.tar", members)
    write_tar(tmp_path / "cc3m-validation-0000.tar", files_of("000000000", encoded_image))
    return tmp_path


def test_samples_of_all_tars(source, encoded_image):
    reader, found = read(source)
    assert {name: (split, record.texts) for name, (split, record) in found.items()} == {
        "cc3m-train-0000/000000002": ("train", ("two dogs in the snow",)),
        "cc3m-train-0000/sub/7": ("train", ("one", "two words")),
        "cc3m-validation-0000/000000000": ("validation", ("a cat on a mat",)),
    }
    assert found["cc3m-train-0000/sub/7"][1].image == encoded_image(7)
    assert reader.left_out() == {"cc3m-train-0000/sub/8": "no caption"}
    assert reader.counts() == {
        "train": {
            "tars": 1,
            "blank captions": 1,
            "repeated captions": 1,
            "images": 2,
            "captions": 3,
        },
        "validation": {"tars": 1, "images": 1, "captions": 1},
    }
    assert reader.sources() == []


def test_images_alone(source):
    reader, found = read(source, WebdatasetImagesReader)
    assert "cc3m-train-0000/sub/8" in found and not reader.left_out()
    assert all(record.texts == () for _, record in found.values())


def test_a_cut_tar_gives_what_comes_before(source):
    path = source / "cc3m-train-0000.tar"
    cut = path.read_bytes().index(b"sub/7.PNG") + 600
    os.truncate(path, cut)
    reader, found = read(source)
    assert list(found) == ["cc3m-train-0000/000000002", "cc3m-validation-0000/000000000"]
    assert reader.counts()["train"]["cut or damaged tars"] == 1
    assert reader.left_out() == {
        "cc3m-train-0000/sub/7": "it has no image",
        "cc3m-train-0000.tar": f"it was cut at byte {cut:,}; the 2 samples before are used",
    }


@pytest.mark.parametrize(
    "text, reason",
    [
        (b"[1]", "its .json holds no object"),
        (b'{"caption": ', "its .json is no JSON"),
        (b'{"caption": 3}', "its caption is no text: 3"),
        (b'{"caption": "\\ud83d"}', "its caption holds half a character"),
        (b'{"url": "x"}', "no caption"),
    ],
)
def test_captions_that_cannot_be_used(tmp_path, encoded_image, text, reason):
    write_tar(tmp_path / "x.tar", [("1.json", text), ("1.jpg", encoded_image())])
    reader, found = read(tmp_path)
    assert not found and reason in reader.left_out()["x/1"]


def test_a_folder_without_tars_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match="holds no tar, subfolders included"):
        list(WebdatasetReader(tmp_path).entries())
