import json

import pytest

from tests.datasets.readers import downloads
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers import sbu

CHAIR, PLANE = "4385058960_b0f291553e.jpg", "4446200877_1dbfc1f4c3.jpg"


@pytest.mark.parametrize(
    "form, folder",
    [("sbu", "dataset/"), ("sbu", "dataset/images/"), ("sbu_json", ""), ("sbu_json", "images/")],
)
def test_both_forms_say_the_same(tmp_path, form, folder):
    images = {f"{folder}{CHAIR}": "JPEG", f"{folder}{PLANE}": "PNG", f"{folder}5_a.jpg": "JPEG"}
    source = downloads.unpack(form, tmp_path / "s", images)
    reader = sbu.SbuReader(source)
    found, missing = downloads.read(reader)
    assert {name: record.texts for name, record in found.items()} == {
        f"sbu/{CHAIR}": ("A wooden chair in the living room", "the same\u2028chair"),
        f"sbu/{PLANE}": ("the plane at the gate",),
    }
    assert found[f"sbu/{CHAIR}"].image == (source / folder / CHAIR).read_bytes()
    assert missing == {"sbu/6_b.jpg": f"{folder}6_b.jpg: there is no such file"}
    assert reader.left_out() == {
        "sbu/5_a.jpg": "its file is also that of http://static.flickr.com/2/5_a.jpg"
    }
    assert reader.counts() == {"train": {"images": 3, "captions": 4}}
    assert reader.published == {"train": {"images": 1_000_000}}


def test_lists_of_different_lengths_are_refused(tmp_path):
    source = downloads.unpack("sbu", tmp_path / "s", {f"dataset/{CHAIR}": "JPEG"})
    reader = sbu.SbuReader(source)
    urls, captions = reader.sources()
    captions.write_bytes(captions.read_bytes().replace(b"the plane at the gate\r\n", b""))
    with pytest.raises(DataError) as error:
        list(reader.entries())
    assert str(error.value) == (
        f"{urls} has 6 entries and {captions} 5; they must be parallel: download both again"
    )
    captions.write_bytes(b"a\n\xff\n")
    with pytest.raises(DataError, match="captions.txt line 2 is not UTF-8: .*; save it as UTF-8"):
        list(reader.entries())


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("captions", ["a"], "image_urls of .*json has 6 entries and captions of .*json 1;"),
        ("captions", [None] * 6, "URL 1 has None where a caption must be"),
        ("image_urls", ["http://a/"] * 6, "URL 1 is 'http://a/', which names no photo"),
        ("image_urls", [3] * 6, "URL 1 is 3, which names no photo"),
        ("image_urls", None, "has no list at 'image_urls'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, key, value, message):
    source = downloads.unpack("sbu_json", tmp_path / "s", {CHAIR: "JPEG"})
    path = source / "sbu-captions-all.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(DataError, match=message):
        list(sbu.SbuReader(source).entries())


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(MissingDataError, match="has neither SBU_captioned_photo_dataset_urls.txt"):
        sbu.SbuReader(tmp_path)
    source = downloads.unpack("sbu", tmp_path / "s", {})
    reader = sbu.SbuReader(source)
    with pytest.raises(MissingDataError, match="has no photos, nor has .*images; download them"):
        list(reader.entries())
    reader.sources()[1].unlink()
    with pytest.raises(MissingDataError, match="captions.txt is missing beside SBU"):
        sbu.SbuReader(source)
