import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.datasets import build, check, images, records, stats, writer


def _dataset(out, **splits):
    with writer.DatasetWriter(out, description="for tests") as dataset:
        for split, records in splits.items():
            for record in records:
                dataset.write(split, record)
    return str(out)


def test_a_good_data_set_passes(tmp_path, some_records, capsys):
    check.main([_dataset(tmp_path / "good", train=some_records)])
    assert "can be read" in capsys.readouterr().out


def test_everything_broken_is_listed_by_id(tmp_path, some_records, capsys):
    records = list(some_records)
    records[1] = dataclasses.replace(records[1], image=records[1].image[:60])
    records[2] = dataclasses.replace(records[2], texts=())
    records[3] = dataclasses.replace(records[3], texts=("good", " "))
    records[5] = dataclasses.replace(records[5], image_id=records[4].image_id)
    source = _dataset(tmp_path / "bad", train=records)
    found = check.check_dataset(source)["train"]
    assert [name for name, _ in found.broken] == [
        "folder/1.png",
        "folder/2.png",
        "folder/3.png",
        "folder/4.png",
    ]
    assert found.records == 10 and not found.repeats
    with pytest.raises(SystemExit) as stopped:
        check.main([source])
    assert stopped.value.code == 1
    assert "broken: train: folder/2.png: it has no caption" in capsys.readouterr().out


def test_repeated_images_are_told_by_their_pixels(tmp_path, some_records, encoded_image, capsys):
    again = dataclasses.replace(some_records[0], image=encoded_image(0, "BMP"), image_id="again")
    source = _dataset(tmp_path / "data", train=some_records[:3], test=[again, some_records[5]])
    assert check.check_dataset(source)["test"].repeats == [("again", ("train", "folder/0.png"))]
    check.main([source])
    assert "repeated: test: again is folder/0.png of train" in capsys.readouterr().out


def test_a_record_damaged_on_disk_is_listed(dataset, some_records):
    shard = next(dataset.glob("data-validation*"))
    data = bytearray(shard.read_bytes())
    data[data.index(some_records[9].image[-60:-40])] ^= 0xFF
    shard.write_bytes(data)
    assert [name for name, _ in check.check_dataset(str(dataset))["validation"].broken] == [
        "record 1"
    ]


def test_a_missing_shard_ends_the_check(dataset):
    next(dataset.glob("data-validation*")).unlink()
    with pytest.raises(SystemExit, match="is missing"):
        check.main([str(dataset)])


def test_texts_are_checked_too(tmp_path, capsys):
    def dataset(name, **splits):
        with writer.DatasetWriter(
            tmp_path / name, kind=records.TEXTS, description="for tests"
        ) as out:
            for split, texts in splits.items():
                for i, text in enumerate(texts):
                    out.write(split, records.TextRecord(text, f"{split}:{i}"))
        return str(tmp_path / name)

    check.main([dataset("good", train=["a", "b", "a"], test=["c", "b"])])
    said = capsys.readouterr().out
    assert "repeated: test: test:1 is train:1 of train" in said and "can be read" in said
    with pytest.raises(SystemExit):
        check.main([dataset("bad", train=["a", " "])])
    assert "broken: train: train:1: it is blank" in capsys.readouterr().out


def unreadable(image_format):
    """An image that Pillow reads and training refuses."""
    file = io.BytesIO()
    pixels = np.ones((16, 16), np.float32 if image_format == "TIFF" else np.uint8)
    Image.fromarray(pixels).save(file, image_format)
    Image.open(io.BytesIO(file.getvalue())).load()
    return file.getvalue()


@pytest.mark.parametrize(
    "image_format, reason",
    [("TIFF", "floating point numbers"), ("TGA", "cannot identify"), ("ICO", "cannot identify")],
)
def test_what_training_cannot_read_is_refused_everywhere(
    tmp_path, some_records, image_format, reason
):
    data = unreadable(image_format)
    with pytest.raises(images.BrokenImageError, match=reason) as training:
        images.decode_image(data)
    record = dataclasses.replace(some_records[0], image=data)
    [(_, problem)] = check.check_dataset(_dataset(tmp_path / "data", train=[record]))[
        "train"
    ].broken
    source = tmp_path / "images"
    source.mkdir()
    (source / "captions.csv").write_text("image,text\nx.dat,an x\ny.png,a y\n")
    (source / "x.dat").write_bytes(data)
    (source / "y.png").write_bytes(some_records[1].image)
    report = build.build_dataset(source, tmp_path / "built", max_broken=1.0)
    left_out = report.left_out["x.dat"]
    address = re.compile("0x[0-9a-f]+")  # of the file in memory, part of Pillow's words
    plain = [address.sub("", text) for text in (problem, left_out, str(training.value))]
    assert plain[0] == f"its image cannot be decoded: {plain[2]}" and plain[1] == plain[2]
    if image_format != "TIFF":
        measured = stats.measure_split([record])
        assert measured.formats == {"unreadable": 1}
