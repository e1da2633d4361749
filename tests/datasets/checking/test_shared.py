import io

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.datasets import check, images, records, sources, writer
from vlmo_jax.datasets.checking import pictures, shared
from vlmo_jax.datasets.readers import coco_ids


@pytest.fixture(scope="module")
def drawings():
    """Some drawings of the package, decoded."""
    train = sources.open_source("embedded:openclipart", "train")
    return [images.decode_image(train[i].image) for i in range(0, 600, 30)]


def _encoded(image, image_format="PNG", **options):
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _record(data, name):
    return records.Record(data, ("a drawing",), (), name)


def _dataset(out, **splits):
    with writer.DatasetWriter(out, description="for tests") as dataset:
        for split, members in splits.items():
            for record in members:
                dataset.write(split, record)
    return str(out)


def _changed(image, how):
    width, height = image.size
    if how == "compressed":
        return _encoded(image, "JPEG", quality=75)
    if how == "half the side":
        return _encoded(image.resize((width // 2, height // 2), Image.Resampling.BICUBIC))
    brighter = np.clip(np.asarray(image).astype(int) + 12, 0, 255).astype(np.uint8)
    return _encoded(Image.fromarray(brighter))


@pytest.mark.parametrize("how", ["compressed", "half the side", "brighter"])
def test_a_changed_picture_is_known_again_and_no_other(drawings, how):
    found = shared.SharedPictures()
    for i, image in enumerate(drawings):
        found.add(shared.Place("a", "train", str(i)), [pictures.recognize(_encoded(image))])
        found.add(shared.Place("b", "test", str(i)), [pictures.recognize(_changed(image, how))])
    pairs = [(item.evaluation.record, item.training.record) for item in found.find()]
    assert all(one == other for one, other in pairs) and len(pairs) >= 17


def test_bounds_hold_exactly():
    found = shared.SharedPictures()
    colours = bytes([100] * 192)

    def picture(waves, colour=100):
        return pictures.Picture(b"%d" % waves, pictures.Looks(waves, bytes([colour]) + colours[1:]))

    found.add(shared.Place("a", "train", "first"), [picture(0)])
    for name, other in {
        "8 bits": picture(0b11111111),
        "9 bits": picture(0b111111111),
        "24 apart": picture(1 << 63, 124),
        "25 apart": picture(1, 125),
        "76 apart": picture(2, 24),
    }.items():
        found.add(shared.Place("a", "test", name), [other])
    assert [item.evaluation.record for item in found.find()] == ["8 bits", "24 apart"]


@pytest.mark.parametrize(
    "record_id, number",
    [
        ("coco/391895", 391895),
        ("vg/2370799/coco/391895", 391895),
        ("val2014/COCO_val2014_000000391895.jpg", 391895),
        ("COCO_test2015_000000000001", 1),
        ("vg/2370799", None),
        ("coco/12/x", None),
        ("mycoco/12", None),
    ],
)
def test_names_of_coco(record_id, number):
    assert coco_ids.coco_id_of(record_id) == number


def test_several_data_sets_are_compared(tmp_path, drawings, capsys):
    png = [_encoded(image) for image in drawings]
    one = _dataset(
        tmp_path / "one",
        train=[_record(png[0], "a"), _record(png[1], "vg/1/coco/77"), _record(png[2], "c")],
    )
    two = _dataset(
        tmp_path / "two",
        train=[_record(png[3], "d"), _record(png[0], "e")],
        test=[
            _record(_encoded(drawings[0], "BMP"), "same"),
            _record(png[4], "coco/77"),
            _record(_changed(drawings[2], "compressed"), "near"),
            _record(png[5], "other"),
        ],
    )
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="something stands there already"):
        check.main([one, two, "--list", str(tmp_path / "file" / "list.tsv")])
    assert "records" not in capsys.readouterr().out  # before all is read
    check.main([one, two, "--list", str(tmp_path / "new" / "list.tsv")])
    said = capsys.readouterr().out
    assert f"near looks nearly like c of train of {one}" in said
    assert "repeated: test: same is e of train" in said
    rows = [line.split("\t") for line in (tmp_path / "new" / "list.tsv").read_text().splitlines()]
    assert [(row[2], row[3], row[6]) for row in rows] == [
        ("same", shared.PIXELS, "a"),
        ("same", shared.PIXELS, "e"),  # of each data set that has it
        ("coco/77", shared.COCO, "vg/1/coco/77"),
        ("near", shared.LOOKS, "c"),
    ]


def test_training_data_may_share_pictures(tmp_path, drawings, capsys):
    png = _encoded(drawings[0])
    source = _dataset(tmp_path / "data", train=[_record(png, "a")], restval=[_record(png, "b")])
    check.main([source])
    assert "shared:" not in capsys.readouterr().out
