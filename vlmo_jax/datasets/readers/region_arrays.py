"""SCAN's arrays of regions, 36 an image, which VSE-infinity and others train on.

Format `precomp`, a folder such as coco_precomp or f30k_precomp:

    SRC/train_ims.npy     float32 [images, 36, 2048], read by mmap, never whole
    SRC/train_caps.txt    a caption a line, five in a row for each image
    SRC/train_ids.txt     an id a line, of each image or of each caption; may be missing

and the same for dev, test and testall, as far as they are there; dev becomes the split
"validation", the others keep their names. Where there are as many arrays as captions, each caption
has its own, which is then written once for each; otherwise caption n is of image n // 5. Of dev the
official code reads the first 5,000 captions, 1,000 images: so does this; --option whole_dev=yes
reads all.

Ids are "train/57870", or "train/0" by the row where there is no file of ids. Boxes are not known:
models see the whole image in their place. A record with NaN or infinity in it is left out and
counted.

`--option dtype=float16` writes half as much.
"""

import functools
import pathlib
from collections.abc import Iterator

import numpy as np

from vlmo_jax.datasets import records
from vlmo_jax.datasets.checking.faults import fault_of_regions
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.captioned_images import caption
from vlmo_jax.datasets.readers.download_reader import DownloadReader
from vlmo_jax.datasets.readers.plain_text import read_lines
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError

SPLITS = {"train": "train", "dev": "validation", "test": "test", "testall": "testall"}
CAPTIONS = 5  # of an image
_DEV_IMAGES = 1000  # that the official code validates on
DTYPES = {"float32": np.float32, "float16": np.float16}


def dtype_called(name: str) -> type[np.generic]:
    """The type of features on disk that an option asks for.

    Raises:
        DataError: there is none of that name.
    """
    if name not in DTYPES:
        raise DataError(f"--option dtype={name}: use one of {', '.join(DTYPES)}")
    return DTYPES[name]


class PrecompReader(DownloadReader):
    """Reads the arrays, captions and ids.

    Args:
        source: folder of the download.
        dtype: of the features on disk, a name in DTYPES.
        whole_dev: "yes" for all of dev.

    Raises:
        MissingDataError, DataError: there are no arrays, or they are none of regions.
    """

    description = "Regions of images with captions, of SCAN's arrays."

    def __init__(self, source: pathlib.Path, dtype: str = "float32", whole_dev: str = "") -> None:
        super().__init__(source)
        found = {name: self.source / f"{name}_ims.npy" for name in SPLITS}
        self._files = {name: path for name, path in found.items() if path.is_file()}
        if not self._files:
            raise MissingDataError(
                f"{source} has none of {', '.join(path.name for path in found.values())}; give the"
                " folder that they lie in, such as coco_precomp"
            )
        widths = {name: open_regions(path).shape[2] for name, path in self._files.items()}
        if len(set(widths.values())) > 1:
            raise DataError(
                f"{source}: features of different widths, {widths}; they are those of different"
                " detectors: put each in a folder of its own"
            )
        self._whole_dev = whole_dev == "yes"
        self.kind = records.regions_kind(next(iter(widths.values())), dtype=dtype_called(dtype))

    def sources(self) -> list[pathlib.Path]:
        """The captions; as `protocol.Reader`."""
        return [self.source / f"{name}_caps.txt" for name in self._files]

    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`."""
        for name, path in self._files.items():
            captions = self.source / f"{name}_caps.txt"
            if not captions.is_file():
                raise MissingDataError(f"{captions} is missing beside {path.name}; put it there")
            texts = list(read_lines(captions))
            each = _captions_an_image(path, captions, len(open_regions(path)), len(texts))
            images = len(texts) // each
            if name == "dev" and not self._whole_dev:
                images = min(images, _DEV_IMAGES * CAPTIONS // each)
            ids = self._ids(name, len(texts), each)
            for row in range(images):
                where = f"{captions} line {row * each + 1}"
                own = [caption(text, where) for text in texts[row * each : (row + 1) * each]]
                self._findings.add(SPLITS[name], {"images": 1, "captions": len(own)})
                yield Entry(SPLITS[name], f"{name}/{ids[row]}", (str(path), row), tuple(own))

    def _ids(self, name: str, num_texts: int, each: int) -> list[str]:
        """An id for each row that no other has."""
        path, rows = self.source / f"{name}_ids.txt", num_texts // each
        if not path.is_file():
            return list(map(str, range(rows)))
        ids = [line.strip() for line in read_lines(path)]
        if len(ids) not in (rows, num_texts):
            raise DataError(
                f"{path} has {len(ids)} ids for {rows} images and {num_texts} captions; it is not"
                " of these files: copy it again, or remove it and rows are counted instead"
            )
        ids = ids if len(ids) == rows else ids[::each]
        if len(set(ids)) == rows:
            return ids
        return [f"{id_}#{row}" for row, id_ in enumerate(ids)]

    def load(self, entry: Entry) -> records.RegionsRecord:
        """As `protocol.Reader`."""
        path, row = entry.place
        record = records.RegionsRecord(
            features=np.asarray(open_regions(pathlib.Path(path))[row], np.float32),
            boxes=np.zeros((0, 4), np.float32),
            width=np.int32(0),
            height=np.int32(0),
            classes=np.zeros((0, 1), np.float32),
            texts=entry.content,
            keywords=(),
            image_id=entry.record_id,
        )
        if fault := fault_of_regions(record):
            raise LeftOutError(f"{path} row {row}: {fault}")
        return record


def open_regions(path: pathlib.Path) -> np.ndarray:
    """An array of regions [images, R, F], mapped.

    Raises:
        DataError: the file holds no such array.
    """
    return _opened(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _opened(path: pathlib.Path, changed: int) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path} is no whole .npy file of numbers ({error}); copy it again"
        ) from error
    if array.ndim != 3 or array.dtype not in (np.float32, np.float16) or 0 in array.shape:
        raise DataError(
            f"{path} holds {array.dtype} {array.shape}; regions are float32 [images, regions,"
            " width]"
        )
    return array


def _captions_an_image(arrays: pathlib.Path, captions: pathlib.Path, rows: int, lines: int) -> int:
    """How many captions in a row are of one image.

    Raises:
        DataError: the numbers of arrays and captions do not go together.
    """
    if rows == lines:
        return 1
    if lines != CAPTIONS * rows:
        raise DataError(
            f"{arrays} has {rows} images and {captions} {lines} captions, neither one nor"
            f" {CAPTIONS} an image; they are not of one another: copy both again"
        )
    return CAPTIONS
