"""ImageNet-1k in the ways in which it comes: classes are folders, in the order of their names."""

import numpy as np
import pytest
from scipy.io import savemat

from tests.datasets.readers.archives import write_tar
from tests.datasets.readers.pictures import picture, put
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.labels import folder_of
from vlmo_jax.datasets.readers.image_files import ImageFilesReader
from vlmo_jax.datasets.readers.imagenet import ImagenetReader

# The devkit's numbers go against the order of the names.
NUMBERS = {"n01440764": 2, "n02105855": 3, "n09999999": 1}
TENCH, DOG, LAST = NUMBERS


def devkit(folder, truth=(3, 1)):
    data = folder / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    rows = np.array(
        [(number, wnid) for wnid, number in NUMBERS.items()],
        [("ILSVRC2012_ID", np.uint8), ("WNID", object)],
    )
    savemat(data / "meta.mat", {"synsets": rows})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{n}\n" for n in truth))


def train_tar(folder):
    inner = [
        (f"{wnid}.tar", write_tar(folder.parent / f"{wnid}.tar", [(f"{wnid}_7.JPEG", picture())]))
        for wnid in (DOG, TENCH, LAST)
    ]
    members = [(name, path.read_bytes()) for name, path in inner]
    write_tar(folder / "ILSVRC2012_img_train.tar", members)


def read(folder):
    reader = ImagenetReader(folder)
    entries = {entry.record_id: entry for entry in reader.entries()}
    assert all(reader.load(entry).image_id == name for name, entry in entries.items())
    return reader, {name: entry.split for name, entry in entries.items()}


def test_tars_and_the_devkit(tmp_path):
    folder = tmp_path / "download"
    train_tar(folder)
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2)]
    write_tar(folder / "ILSVRC2012_img_val.tar", [(name, picture()) for name in names])
    devkit(folder)
    reader, found = read(folder)
    assert found == {
        **{f"train/{wnid}/{wnid}_7": "train" for wnid in NUMBERS},
        f"validation/{DOG}/ILSVRC2012_val_00000001": "validation",
        f"validation/{LAST}/ILSVRC2012_val_00000002": "validation",
    }
    assert reader.files() == {"classes.txt": f"{TENCH}\n{DOG}\n{LAST}\n"}
    assert {folder_of(name) for name in found} == set(NUMBERS)
    assert len(reader.sources()) == 2
    assert reader.counts() == {"train": {"images": 3}, "validation": {"images": 2}}


def test_folders_and_kaggles_table(tmp_path):
    put(tmp_path / "train" / TENCH / f"{TENCH}_1.JPEG")
    put(tmp_path / "val" / DOG / "ILSVRC2012_val_00000003.JPEG")
    put(tmp_path / "val" / "ILSVRC2012_val_00000004.JPEG")
    put(tmp_path / "test" / "ILSVRC2012_test_00000001.JPEG")
    (tmp_path / "train" / "n00000001").mkdir()
    (tmp_path / "LOC_val_solution.csv").write_text(
        f"ImageId,PredictionString\nILSVRC2012_val_00000004,{LAST} 85 1 499 272 {LAST} 1 1 2 2 \n"
    )
    reader, found = read(tmp_path)
    assert set(found) == {
        f"train/{TENCH}/{TENCH}_1",
        f"validation/{DOG}/ILSVRC2012_val_00000003",
        f"validation/{LAST}/ILSVRC2012_val_00000004",
    }
    assert reader.counts()["test"] == {"images without a class": 1}
    assert reader.notes == ("1 folders hold no image: train/n00000001",)


def test_without_a_table_flat_images_are_refused(tmp_path):
    put(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(DataError, match="nothing tells their classes: .*devkit.*LOC_val_solution"):
        read(tmp_path)
    devkit(tmp_path, truth=())
    with pytest.raises(DataError, match="ground_truth.txt does not tell it; take it away"):
        read(tmp_path)


@pytest.mark.parametrize(
    "truth, message", [((3, 9), "line 2: '9' is no class"), (("x",), "line 1")]
)
def test_a_damaged_devkit_is_refused(tmp_path, truth, message):
    put(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    devkit(tmp_path, truth)
    with pytest.raises(DataError, match=message):
        read(tmp_path)
    (tmp_path / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").write_bytes(b"<html>")
    with pytest.raises(DataError, match="meta.mat is not the devkit's table of classes"):
        read(tmp_path)


def test_empty_folders_are_counted_and_named(tmp_path):
    put(tmp_path / "cats" / "1.png")
    for name in ("dogs", "cows"):
        (tmp_path / name).mkdir()
    reader = ImageFilesReader(tmp_path)
    assert [entry.record_id for entry in reader.entries()] == ["cats/1"]
    assert reader.notes == ("2 folders hold no image: cows, dogs",)
    with pytest.raises(MissingDataError, match="holds no images"):
        list(ImageFilesReader(tmp_path / "dogs").entries())
