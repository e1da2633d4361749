"""Downloads of others, made up: annotations of tests/data/formats and tiny pictures."""

import pathlib
import pickle
import shutil

from tests import pictures
from tests.paths import DATA
from vlmo_jax.datasets.readers.protocol import LeftOutError


def unpack(name: str, folder: pathlib.Path, images: dict[str, str]) -> pathlib.Path:
    """Copies a download and draws its images.

    Args:
        name: of a folder in tests/data/formats.
        folder: where it goes.
        images: {path: format inside}.
    """
    shutil.copytree(DATA / "formats" / name, folder, dirs_exist_ok=True)
    for seed, (path, image_format) in enumerate(images.items()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pictures.noise(6, 4, seed=seed).save(folder / path, image_format)
    return folder


def read(reader):
    """The records of a reader that was sent elsewhere, by id, and {id: why} of those left out."""
    entries = list(reader.entries())
    reader, entries = pickle.loads(pickle.dumps((reader, entries)))
    found, missing = {}, {}
    for entry in entries:
        try:
            found[entry.record_id] = reader.load(entry)
        except LeftOutError as error:
            missing[entry.record_id] = str(error)
    return found, missing


def splits(reader):
    """{split: ids}, in order."""
    found = {}
    for entry in reader.entries():
        found.setdefault(entry.split, []).append(entry.record_id)
    return found
