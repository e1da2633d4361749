"""Images with masks in folders: ADE20K's tree and one's own, and what is wrong with them."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.datasets import build
from vlmo_jax.datasets.errors import MissingDataError
from vlmo_jax.datasets.masks import BrokenMaskError, decode_mask, read_classes_of_mask
from vlmo_jax.datasets.readers.image_masks import ImageMasksReader
from vlmo_jax.datasets.readers.protocol import LeftOutError
from vlmo_jax.datasets.sources import open_segmentation_source

MASK = np.arange(20, dtype=np.uint8).reshape(4, 5) % 4


def encoded(pixels, mode=None, form="PNG"):
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    file = io.BytesIO()
    (image.convert(mode) if mode and mode != "P" else image).save(file, form)
    return file.getvalue()


def write(root, path, data):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(data)


def picture(mode="RGB"):
    return encoded(np.full((4, 5, 3), 90, np.uint8), mode)


def test_trees_are_read_and_masks_kept_byte_for_byte(tmp_path):
    source = tmp_path / "ADEChallengeData2016"
    palette, grey = encoded(MASK, "P"), encoded(MASK)
    write(source, "images/training/ADE_train_00000001.jpg", encoded(MASK, "RGB", "JPEG"))
    write(source, "annotations/training/ADE_train_00000001.png", palette)
    write(source, "images/validation/ADE_val_00000001.png", encoded(MASK))  # grey
    write(source, "annotations/validation/ADE_val_00000001.png", grey)
    sixteen = (MASK.astype(np.uint16) + 1) * 257
    write(source, "images/validation/ADE_val_00000002.png", encoded(sixteen))
    write(source, "annotations/validation/ADE_val_00000002.png", encoded(MASK.astype(np.uint16)))
    build.main([str(source), str(tmp_path / "out"), "--format=image_masks", "--workers=1"])
    record = open_segmentation_source(str(tmp_path / "out"), "train")[0]
    assert record.mask.tobytes() == palette
    assert record.image_id == "training/ADE_train_00000001"
    validation = open_segmentation_source(str(tmp_path / "out"), "validation")
    assert validation[0].mask.tobytes() == grey
    for each in (record, *validation):
        np.testing.assert_array_equal(decode_mask(each.mask.tobytes()), MASK)


def test_what_does_not_go_together_is_left_out_and_named(tmp_path):
    for name in ("good", "alone", "small", "coloured", "damaged"):
        write(tmp_path, f"images/{name}.png", picture())
    write(tmp_path, "masks/good.png", encoded(MASK))
    write(tmp_path, "masks/small.png", encoded(MASK[:3]))
    write(tmp_path, "masks/coloured.png", encoded(MASK, "RGB"))
    write(tmp_path, "masks/damaged.png", encoded(MASK)[:40])
    write(tmp_path, "masks/nobody.png", encoded(MASK))
    reader = ImageMasksReader(tmp_path)
    entries = {entry.record_id: entry for entry in reader.entries()}
    reader = pickle.loads(pickle.dumps(reader))
    assert set(entries) == {"good", "small", "coloured", "damaged"}
    assert reader.left_out() == {
        "images/alone.png": "it has no mask below masks",
        "masks/nobody.png": "a mask without an image",
    }
    assert reader.load(entries["good"]).image_id == "good"
    for name, why in (
        ("small", "5 x 3 pixels and the image 5 x 4"),
        ("coloured", "mode RGB, not numbers of classes"),
        ("damaged", "cannot be read"),
    ):
        with pytest.raises(LeftOutError, match=why):
            reader.load(entries[name])


def test_empty_folders_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match="folders images and one of annotations"):
        ImageMasksReader(tmp_path)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(MissingDataError, match="holds no images"):
        list(ImageMasksReader(tmp_path).entries())


def test_labels_follow_the_rule_for_zero():
    labels = np.array([[0, 1, 3, 255]], np.uint8)
    np.testing.assert_array_equal(
        read_classes_of_mask(encoded(labels), 3, zero_is_other=True), [[255, 0, 2, 255]]
    )
    np.testing.assert_array_equal(
        read_classes_of_mask(encoded(labels), 4, zero_is_other=False), labels
    )
    with pytest.raises(BrokenMaskError, match="label 3, and the classes are 1 to 2"):
        read_classes_of_mask(encoded(labels), 2, zero_is_other=True)
    with pytest.raises(BrokenMaskError, match="label 300; labels are 0 to 255"):
        decode_mask(encoded(np.array([[300]], np.uint16)))
