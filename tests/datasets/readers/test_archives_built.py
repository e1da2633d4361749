"""From archives to data sets, by the build command; and archives that were cut anywhere."""

import os

import pytest

from tests.datasets.readers.archives import write_shard, write_tar
from vlmo_jax.datasets import build
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.img2dataset import Img2datasetReader
from vlmo_jax.datasets.readers.webdataset import WebdatasetReader
from vlmo_jax.datasets.sources import kind_of, open_image_source, open_source


def build_set(download, out, form, *flags):
    build.main([str(download), str(out), f"--format={form}", "--workers=1", *flags])


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_img2dataset(tmp_path, encoded_image, capsys, form):
    write_shard(tmp_path / "in", form, encoded_image)
    build_set(tmp_path / "in", tmp_path / "out", "img2dataset", "--max_broken=0.3")
    found = {record.image_id: record for record in open_source(str(tmp_path / "out"), "train")}
    assert found["00000/000000002"].texts == ("two dogs in the snow",)
    assert found["00000/000000002"].image == encoded_image(2, "JPEG", (16, 12))
    told = capsys.readouterr().out
    assert "00000/000000004: no caption" in told and "failed_to_download" in told


def test_image_tars_that_are_cut(tmp_path, encoded_image, capsys):
    members = [(f"n1_{i}.JPEG", encoded_image(i, "JPEG")) for i in range(3)]
    path = write_tar(tmp_path / "in" / "n1.tar", members)
    size = path.read_bytes().index(b"n1_2.JPEG") + 600
    os.truncate(path, size)
    build_set(tmp_path / "in", tmp_path / "out", "image_files", "--max_broken=0.4")
    records = open_image_source(str(tmp_path / "out"), "train")
    assert [record.image_id for record in records] == ["n1/n1_0", "n1/n1_1"]
    assert kind_of(str(tmp_path / "out")).marker == "bare_images"
    assert f"n1.tar: it was cut at byte {size:,}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "form, reader_class, name",
    [
        ("webdataset", WebdatasetReader, "00000.tar"),
        ("webdataset", Img2datasetReader, "00000.tar"),
        ("webdataset", Img2datasetReader, "00000.parquet"),
        ("parquet", Img2datasetReader, "00000.parquet"),
    ],
)
def test_a_cut_file_is_told_wherever_it_was_cut(tmp_path, encoded_image, form, reader_class, name):
    root = write_shard(tmp_path, form, encoded_image)
    whole = (root / name).read_bytes()
    tables = name.endswith(".parquet")
    for size in range(0, len(whole), 331):
        (root / name).write_bytes(whole[:size])
        reader = reader_class(root)
        try:
            loaded = [reader.load(entry) for entry in reader.entries()]
        except DataError as error:
            assert name in str(error)
            continue
        padding = len(whole) - len(whole.rstrip(b"\0")) > len(whole) - size
        assert not tables and len(loaded) <= 3
        assert padding or any(f"cut at byte {size:,}" in why for why in reader.left_out().values())
