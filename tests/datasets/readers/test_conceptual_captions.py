import zlib

import pytest

from tests.datasets.readers import downloads
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers import conceptual_captions

BUS, GIRL, AUTHOR = (f"http://example.org/{name}.jpg" for name in ("bus", "girl", "author"))
BY_LINE = {
    "images_train/0000/0000000": "JPEG",
    "images_train/0000/0000002.jpg": "PNG",
    "images_val/0000/0000000": "JPEG",
}


def _named_by_url(folder, url):
    return f"{folder}/{zlib.crc32(url.encode())}"


def _check(reader, bus, girl, author):
    found, missing = downloads.read(reader)
    assert {name: record.texts for name, record in found.items()} == {
        "cc3m/train/0000000": ("a very typical bus station",),
        "cc3m/train/0000002": ("young confused girl standing",),
        "cc3m/validation/0000000": ("author : a life in photography",),
    }
    images = [record.image for record in found.values()]
    assert images == [(reader.source / path).read_bytes() for path in (bus, girl, author)]
    assert list(missing) == ["cc3m/train/0000001"]
    assert reader.counts() == {
        "train": {"images": 3, "captions": 3},
        "validation": {"images": 1, "captions": 1},
    }
    assert reader.published == {"train": {"images": 3_318_333}, "validation": {"images": 15_840}}


def test_images_named_by_their_line(tmp_path):
    source = downloads.unpack("cc3m", tmp_path / "c", BY_LINE)
    (source / "images_train/notes.txt").touch()
    _check(conceptual_captions.ConceptualCaptionsReader(source), *BY_LINE)


def test_images_named_by_the_checksum_of_their_url(tmp_path):
    names = [_named_by_url("training", BUS), _named_by_url("training", GIRL)]
    names.append(_named_by_url("validation", AUTHOR))
    source = downloads.unpack("cc3m", tmp_path / "c", dict.fromkeys(names, "JPEG"))
    _check(conceptual_captions.ConceptualCaptionsReader(source), *names)


def test_images_named_by_a_table(tmp_path):
    images = dict.fromkeys(("a/x.jpg", "b/y.jpg", "images_val/0000/0000000"), "JPEG")
    source = downloads.unpack("cc3m", tmp_path / "c", images)
    table = source / "images_train.tsv"
    table.write_text(f"{GIRL}\tb/y.jpg\n{BUS}\ta/x.jpg\n")
    reader = conceptual_captions.ConceptualCaptionsReader(source)
    _check(reader, *images)
    assert table in reader.sources()
    table.write_text(f"{GIRL}\tb/y.jpg\n{GIRL}\ta/x.jpg\n")
    with pytest.raises(DataError, match="images_train.tsv line 2 has no path for .*girl.jpg, or"):
        list(reader.entries())


def test_two_urls_of_one_checksum_are_both_left_out(tmp_path):
    twins = "http://a/plumless", "http://a/buckeroo"  # the words have one CRC-32
    assert len({zlib.crc32(url.encode()) for url in twins}) == 1
    name = _named_by_url("training", twins[0])
    images = {name: "JPEG", _named_by_url("training", BUS): "JPEG"}
    source = downloads.unpack("cc3m", tmp_path / "c", images)
    (source / "Validation_GCC-1.1.0-Validation.tsv").unlink()
    with open(source / "Train_GCC-training.tsv", "a") as file:
        file.writelines(f"a fruit\t{url}\n" for url in twins)
        file.write(f"the bus again\t{BUS}\n")
    found, missing = downloads.read(conceptual_captions.ConceptualCaptionsReader(source))
    assert list(found) == ["cc3m/train/0000000", "cc3m/train/0000005"]
    assert missing["cc3m/train/0000003"] == missing["cc3m/train/0000004"]
    assert "is that of two URLs" in missing["cc3m/train/0000003"]


def test_numbers_that_the_table_does_not_have_are_refused(tmp_path):
    images = {"images_train/1.jpg": "JPEG", "images_train/3.jpg": "JPEG"}
    source = downloads.unpack("cc3m", tmp_path / "c", images)
    reader = conceptual_captions.ConceptualCaptionsReader(source)
    with pytest.raises(DataError, match="images_train/3.jpg is no line of .*whose 3 lines are cou"):
        list(reader.entries())
    (source / "images_train/3.jpg").rename(source / "images_train/01.png")
    with pytest.raises(DataError, match="01.png and .*/1.jpg have the same number; move one"):
        list(reader.entries())


@pytest.mark.parametrize(
    "line, message",
    [
        ("a caption alone", "tsv line 4 has 1 fields; it must be caption TAB URL"),
        ("a\tb\tc", "tsv line 4 has 3 fields"),
        ("", "tsv line 4 has 1 fields"),
    ],
)
def test_lines_that_are_no_rows_are_named(tmp_path, line, message):
    source = downloads.unpack("cc3m", tmp_path / "c", BY_LINE)
    with open(source / "Train_GCC-training.tsv", "a") as file:
        file.write(f"{line}\n")
    with pytest.raises(DataError, match=message):
        list(conceptual_captions.ConceptualCaptionsReader(source).entries())


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(MissingDataError, match="has no Train_GCC-training.tsv or Validation_GCC"):
        conceptual_captions.ConceptualCaptionsReader(tmp_path)
    source = downloads.unpack("cc3m", tmp_path / "c", {})
    with pytest.raises(MissingDataError, match="none of images_train.tsv, images_train and train"):
        list(conceptual_captions.ConceptualCaptionsReader(source).entries())
