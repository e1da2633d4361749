"""Downloads of VQAv2 and NLVR2 as they would lie on a disk, and data sets built from them."""

import shutil

from tests.datasets.readers.pictures import put
from tests.paths import DATA
from vlmo_jax.datasets.readers.protocol import LeftOutError
from vlmo_jax.datasets.writer import DatasetWriter

FORMATS = DATA / "formats"
IMAGES = {"train2014": (9, 10, 25), "val2014": range(100, 106), "test2015": (201, 202)}


def vqav2(folder):
    """A download of VQAv2, complete."""
    shutil.copytree(FORMATS / "vqav2", folder, dirs_exist_ok=True)
    for subset, numbers in IMAGES.items():
        for number in numbers:
            put(folder / subset / f"COCO_{subset}_{number:012d}.jpg", number)
    return folder


def nlvr2(folder):
    """A download of NLVR2: files in nlvr2/data, some images called .png that are JPEG; of train-12
    the right image is missing, of dev-3 it is broken.
    """
    data = folder / "nlvr2" / "data"
    shutil.copytree(FORMATS / "nlvr2", data)
    (data / "balanced").mkdir()
    (data / "balanced_dev.json").rename(data / "balanced" / "balanced_dev.json")
    for pair, place in {
        "train-10-0": "images/train/7",
        "train-10-1": "images/train/7",
        "dev-0-0": "dev",
        "dev-0-1": "dev",
        "dev-3-0": "dev",
        "test1-0-0": "test1",
    }.items():
        for side, file_format in ((0, "PNG"), (1, "JPEG")):
            put(folder / place / f"{pair}-img{side}.png", 50 + side, file_format)
    put(folder / "images/train/12/train-12-0-img0.png")
    (folder / "dev" / "dev-3-0-img1.png").write_bytes(b"<html>gone</html>")
    return folder


def read_all(reader):
    """All records by split, and what was left out with the reasons."""
    found, left_out = {}, {}
    entries = list(reader.entries())
    for entry in entries:
        try:
            found.setdefault(entry.split, []).append(reader.load(entry))
        except LeftOutError as error:
            left_out[entry.record_id] = str(error)
    return found, {**reader.left_out(), **left_out}


def build(reader, out):
    """A data set of a reader's records, with its files beside the shards."""
    found, _ = read_all(reader)
    with DatasetWriter(out, kind=reader.kind, description=reader.description) as dataset:
        for split, records in found.items():
            for record in records:
                dataset.write(split, record)
        for name, text in reader.files().items():
            dataset.add_file(name, text)
    return str(out)
