"""img2dataset's outputs: one shard gives the same in every form, and what is not there is told."""

import json
import os
import pickle

import pytest

from tests.datasets.readers.archives import (
    COMPLETION_ORDER,
    files_of,
    rows,
    write_shard,
    write_table,
    write_tar,
)
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.img2dataset import Img2datasetImagesReader, Img2datasetReader
from vlmo_jax.datasets.readers.protocol import LeftOutError

FORMS = ("webdataset", "files", "parquet")
CAPTIONS = {
    "00000/000000000": ("a cat on a mat",),
    "00000/000000002": ("two dogs in the snow",),
    "00000/000000005": ("a naïve café 😀",),
}


def read(root, reader_class=Img2datasetReader):
    """The reader, and {id: record} of all its entries, loaded by a copy of it."""
    reader = reader_class(root)
    entries = list(reader.entries())
    copy = pickle.loads(pickle.dumps(reader))
    entries = pickle.loads(pickle.dumps(entries))
    return reader, {entry.record_id: copy.load(entry) for entry in entries}


@pytest.mark.parametrize("form", FORMS)
def test_a_shard_gives_the_same_in_every_form(tmp_path, encoded_image, form):
    reader, found = read(write_shard(tmp_path / "out", form, encoded_image))
    assert {name: record.texts for name, record in found.items()} == CAPTIONS
    for name, record in found.items():
        assert record.image == encoded_image(int(name[-9:]), "JPEG", (16, 12))
        assert record.image_id == name and record.keywords == ()
    assert reader.counts() == {
        "train": {
            "shards": 1,
            "failed_to_download": 2,
            "failed_to_resize": 1,
            "blank captions": 1,
            "images": 3,
            "captions": 3,
        }
    }
    assert reader.left_out() == {"00000/000000004": "no caption"}
    names = [path.name for path in reader.sources()]
    assert names == ["00000_stats.json", "00000.parquet"][: 1 if form == "parquet" else 2]


@pytest.mark.parametrize("form", FORMS)
def test_images_alone_need_no_captions(tmp_path, encoded_image, form):
    root = write_shard(tmp_path / "out", form, encoded_image)
    reader, found = read(root, Img2datasetImagesReader)
    assert sorted(found) == [f"00000/{key}" for key in sorted(COMPLETION_ORDER)]
    assert all(record.texts == () for record in found.values())
    assert reader.counts()["train"]["images"] == 4 and not reader.left_out()


def test_tars_keep_their_order_and_splits_are_folders(tmp_path, encoded_image):
    write_shard(tmp_path / "cc3m" / "train", "webdataset", encoded_image)
    write_shard(tmp_path / "cc3m" / "val", "files", encoded_image)
    reader, found = read(tmp_path)
    keys = [key for key in COMPLETION_ORDER if f"00000/{key}" in CAPTIONS]
    assert list(found)[:3] == [f"cc3m/train/00000/{key}" for key in keys]
    assert list(found)[3:] == [f"cc3m/val/00000/{key}" for key in sorted(keys)]
    assert [counts["images"] for counts in reader.counts().values()] == [3, 3]
    assert list(reader.counts()) == ["train", "validation"]


def test_captions_come_from_txt_then_json_then_the_row_of_the_key(tmp_path, encoded_image):
    root = write_shard(tmp_path, "files", encoded_image)
    (root / "00000" / "000000000.txt").write_text("of the txt")
    (root / "00000" / "000000002.txt").unlink()
    (root / "00000" / "000000002.json").write_text(json.dumps({"caption": "of the json"}))
    for end in ("txt", "json"):
        (root / "00000" / f"000000005.{end}").unlink()
    changed = [{**row, "caption": f"of row {row['key'][-1]}"} for row in reversed(rows())]
    write_table(root / "00000.parquet", changed)
    _, found = read(root)
    texts = {name[-1]: record.texts for name, record in found.items()}
    assert texts == {"0": ("of the txt",), "2": ("of the json",), "5": ("of row 5",)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stats", [None, "", '{"count": 7, "succ'])
def test_a_shard_without_whole_stats_is_not_finished(tmp_path, encoded_image, form, stats):
    root = write_shard(tmp_path, form, encoded_image)
    write_shard(root, form, encoded_image, name="00001")
    (root / "00001_stats.json").unlink()
    if stats is not None:
        (root / "00001_stats.json").write_text(stats)
    if form == "webdataset":  # as it is while img2dataset writes
        os.truncate(root / "00001.tar", 1024)
        os.truncate(root / "00001.parquet", 100)
    reader, found = read(root)
    assert list(found) and all(name.startswith("00000/") for name in found)
    assert reader.counts()["train"]["unfinished shards"] == 1
    end = {"webdataset": ".tar", "files": "", "parquet": ".parquet"}[form]
    assert "not finished: 00001_stats.json is missing or cut" in reader.left_out()[f"00001{end}"]
    (root / "00000_stats.json").unlink()
    with pytest.raises(DataError, match="none of the 2 shards .* as 00000, has a stats file"):
        list(Img2datasetReader(root).entries())


def test_a_folder_of_images_that_no_stats_file_is_about_is_not_finished(tmp_path, encoded_image):
    root = write_shard(tmp_path, "webdataset", encoded_image)
    write_shard(tmp_path / "more", "files", encoded_image)
    for name in ("00000_stats.json", "00000.parquet"):
        (tmp_path / "more" / name).unlink()
    reader, found = read(root)
    assert len(found) == 3 and "not finished" in reader.left_out()["more/00000"]


def test_of_a_cut_tar_whole_samples_are_used_and_lost_ones_named(tmp_path, encoded_image):
    root = write_shard(tmp_path, "webdataset", encoded_image)
    with open(root / "00000.tar", "rb") as file:
        cut = file.read().index(b"000000004.jpg") + 512 + 100  # within the third image
    os.truncate(root / "00000.tar", cut)
    reader, found = read(root)
    assert list(found) == ["00000/000000005", "00000/000000000"]
    assert reader.counts()["train"]["cut or damaged tars"] == 1
    assert reader.left_out() == {
        "00000/000000002": f"00000.tar: it was cut at byte {cut:,}",
        "00000/000000004": f"00000.tar: it was cut at byte {cut:,}",
        "00000.tar": f"it was cut at byte {cut:,}; the 2 of 4 that are there are used",
    }


def test_without_a_table_the_stats_tell_what_is_missing(tmp_path, encoded_image):
    root = write_shard(tmp_path, "files", encoded_image)
    (root / "00000.parquet").unlink()
    (root / "00000" / "000000000.jpg").unlink()
    reader, found = read(root)
    assert sorted(found) == ["00000/000000002", "00000/000000005"]
    assert reader.left_out()["00000/000000000"] == "it has no image"
    assert reader.left_out()["00000"] == "images are missing; the 3 of 4 that are there are used"
    assert reader.counts()["train"]["failed_to_download"] == 2


def test_an_image_that_is_gone_is_named_by_the_table(tmp_path, encoded_image):
    root = write_shard(tmp_path, "files", encoded_image)
    for end in ("jpg", "txt", "json"):
        (root / "00000" / f"000000000.{end}").unlink()
    reader, _ = read(root)
    assert reader.left_out()["00000/000000000"] == "it was fetched, but is not in 00000"


def test_broken_images_and_texts_leave_out_their_samples(tmp_path, encoded_image):
    root = write_shard(tmp_path, "files", encoded_image)
    (root / "00000" / "000000000.jpg").write_bytes(b"<html>not found</html>")
    (root / "00000" / "000000002.txt").write_bytes(b"caf\xe9")
    reader = Img2datasetReader(root)
    first, second = reader.entries()
    assert "its .txt is not UTF-8" in reader.left_out()["00000/000000002"]
    with pytest.raises(LeftOutError, match="cannot identify"):
        reader.load(first)
    assert reader.load(second).texts == CAPTIONS["00000/000000005"]


def test_odd_rows_of_the_form_parquet(tmp_path, encoded_image):
    root = write_shard(tmp_path, "parquet", encoded_image)
    changed = [{**row, "status": "success"} for row in rows()]
    images = [encoded_image(0)] + 6 * [None]
    write_table(root / "00000.parquet", [*changed, changed[0]], jpg=[*images, b""])
    reader = Img2datasetReader(root)
    entries = list(reader.entries())
    assert len(entries) == 6
    assert "an earlier row" in reader.left_out()["00000/000000000 (row 1)"]
    assert reader.load(entries[0]).image == encoded_image(0)
    with pytest.raises(LeftOutError, match="its row holds no image"):
        reader.load(entries[1])


def test_a_second_image_of_a_key_is_named_and_a_repeated_name_counts_once(tmp_path, encoded_image):
    root = write_shard(tmp_path, "webdataset", encoded_image)
    again = encoded_image(9, "JPEG")
    members = [*files_of("000000000", encoded_image), ("000000000.png", encoded_image(1))]
    members += [("000000000.mask.png", encoded_image(2)), ("000000000.jpg", again)]
    write_tar(root / "00000.tar", members)
    reader, found = read(root)
    assert [record.image for record in found.values()] == [encoded_image(1)]
    left_out = reader.left_out()
    assert left_out["00000.tar: 000000000.jpg (the first)"].startswith("a later member")
    assert left_out["00000/000000000.jpg"] == "a second image of its sample"


@pytest.mark.parametrize(
    "name, data, error, message",
    [
        ("00000.tfrecord", b"", DataError, "form tfrecord, .*output_format=webdataset"),
        ("00001.tar.gz", b"", DataError, "00001.tar.gz is packed, .*gunzip"),
        ("00001_stats.json", b"{}", MissingDataError, "00001_stats.json is there, but neither"),
        ("00000.tar", b"<html>", DataError, "00000.tar is (an HTML|a web)"),
        ("00000.tar", b"", DataError, "00000.tar is an empty file"),
        ("00000.parquet", b"PAR1", DataError, "00000.parquet was cut, is damaged, or is no"),
    ],
)
def test_refusals(tmp_path, encoded_image, name, data, error, message):
    root = write_shard(tmp_path, "webdataset", encoded_image)
    (root / name).write_bytes(data)
    with pytest.raises(error, match=message):
        list(Img2datasetReader(root).entries())


def test_tables_of_something_else_and_lost_tars_are_refused(tmp_path, encoded_image):
    root = write_shard(tmp_path, "webdataset", encoded_image)
    (root / "00000.tar").unlink()
    with pytest.raises(MissingDataError, match="neither 00000.tar nor a folder 00000"):
        list(Img2datasetReader(root).entries())
    root = write_shard(tmp_path, "webdataset", encoded_image)
    write_table(root / "00000.parquet", [{"url": "x"}])
    with pytest.raises(DataError, match="has no column key"):
        list(Img2datasetReader(root).entries())
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="holds nothing of img2dataset"):
        list(Img2datasetReader(tmp_path / "empty").entries())
    with pytest.raises(MissingDataError, match="is no folder"):
        Img2datasetReader(tmp_path / "none")
