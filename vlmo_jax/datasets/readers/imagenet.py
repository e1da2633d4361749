"""ImageNet-1k, each image with its class, from the folders or tars that it is given out as.

Format `imagenet`, for classification:

    SRC/ILSVRC2012_img_train.tar                        a tar of a tar a class, or
    SRC/train/n01440764/n01440764_10026.JPEG            the same unpacked
    SRC/ILSVRC2012_img_val.tar                          50,000 images beside each other, or
    SRC/val/ILSVRC2012_val_00000001.JPEG                the same unpacked, or
    SRC/val/n01751748/ILSVRC2012_val_00000001.JPEG      sorted into folders
    SRC/ILSVRC2012_devkit_t12/data/                     the devkit, unpacked: meta.mat and
                                                        ILSVRC2012_validation_ground_truth.txt, or
    SRC/LOC_val_solution.csv                            the same from Kaggle

Devkit or table are needed where validation images lie beside each other. The devkit's numbers are
not those of classes here, whose order is that of their sorted names (wnids); meta.mat translates.
Ids are "train/n01440764/n01440764_10026" and "validation/n01751748/ILSVRC2012_val_00000001", so
that the folder is the class; classes.txt beside the records lists the classes. Images of the test
set have no public class and are left out. All else is as with `image_files`, CMYK JPEGs and a PNG
named .JPEG included.

Counts (not verified): 1,281,167 images in train and 50,000 in validation, 1,000 classes.
"""

import pathlib
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from vlmo_jax.datasets.class_lists import CLASSES, classes_text
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.image_files import FoundImage, ImageFilesReader
from vlmo_jax.datasets.readers.plain_text import read_lines
from vlmo_jax.datasets.readers.protocol import Entry

WNID = r"n\d{8}"
TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
TABLE = "LOC_val_solution.csv"
_FLAT = re.compile(r"ILSVRC2012_val_(\d{8})")
_TEST = re.compile(r"ILSVRC2012_test_\d+")


class ImagenetReader(ImageFilesReader):
    """Reads ImageNet-1k.

    Args:
        source: the folder.

    Raises:
        MissingDataError: there is no such folder.
    """

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        self.description = f"ImageNet-1k of {source.name}, each image with its class."
        self._wnids: set[str] = set()
        self._truth: dict[str, str] | None = None

    def sources(self) -> list[pathlib.Path]:
        """The files that tell the classes of validation images; see `protocol.Reader`."""
        return [path for name in (TRUTH, META, TABLE) if (path := self._find(name)) is not None]

    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`."""
        self._wnids, self._truth = set(), None
        yield from super().entries()

    def files(self) -> dict[str, str]:
        """The classes in their order."""
        return {CLASSES: classes_text(sorted(self._wnids))}

    def _named(self, images: list[FoundImage]) -> Iterator[Entry]:
        for path, split, place in images:
            folder, stem = posixpath.split(posixpath.splitext(path)[0])
            wnid = posixpath.basename(folder)
            if _TEST.fullmatch(stem):
                self._findings.add(split, {"images without a class": 1})
                continue
            if not re.fullmatch(WNID, wnid):
                wnid = self._validation_class(path, stem)
                split = "validation"
            self._wnids.add(wnid)
            self._findings.add(split, {"images": 1})
            yield Entry(split, f"{split}/{wnid}/{stem}", place)

    def _validation_class(self, path: str, stem: str) -> str:
        match = _FLAT.fullmatch(stem)
        if self._truth is None:
            self._truth = self._read_truth(path)
        if match is None or stem not in self._truth:
            raise DataError(
                f"{path} lies in no folder of a class, such as n01440764, and {TRUTH} does not tell"
                " it; take it away, or give --format=image_files for other images"
            )
        return self._truth[stem]

    def _read_truth(self, path: str) -> dict[str, str]:
        """Name of a validation image -> its class."""
        truth, meta, table = (self._find(name) for name in (TRUTH, META, TABLE))
        if table is not None:
            return _read_table(table)
        if truth is None or meta is None:
            raise DataError(
                f"{path} and others lie in no folder of a class, and nothing tells their classes:"
                f" put the devkit's {META} and {TRUTH} (unpack ILSVRC2012_devkit_t12.tar.gz), or"
                f" Kaggle's {TABLE}, below {self.source}"
            )
        wnids = _read_meta(meta)
        found = {}
        for number, line in enumerate(read_lines(truth), 1):
            if not line.strip().isdecimal() or int(line) not in wnids:
                raise DataError(f"{truth} line {number}: {line[:40]!r} is no class of {META}")
            found[f"ILSVRC2012_val_{number:08d}"] = wnids[int(line)]
        return found

    def _find(self, name: str) -> pathlib.Path | None:
        places = (self.source, self.source / "data", *self.source.glob("*devkit*/data"))
        return next((place / name for place in places if (place / name).is_file()), None)


def _read_meta(path: pathlib.Path) -> dict[int, str]:
    """The devkit's number of a class -> its wnid."""
    from scipy.io import loadmat  # slow to import, and of no use to other formats

    try:
        synsets: Any = loadmat(path, squeeze_me=True)["synsets"]
        rows = zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)
        return {int(number): str(wnid) for number, wnid in rows}
    except Exception as error:  # on a damaged file the reader raises nearly anything
        raise DataError(
            f"{path} is not the devkit's table of classes ({type(error).__name__}: {error}); unpack"
            " ILSVRC2012_devkit_t12.tar.gz again"
        ) from error


def _read_table(path: pathlib.Path) -> dict[str, str]:
    """Kaggle's rows "ILSVRC2012_val_00048981,n03995372 85 1 499 272"."""
    found = {}
    for number, line in enumerate(read_lines(path), 1):
        name, _, said = line.partition(",")
        match = re.match(WNID, said)
        if match:
            found[name] = match[0]
        elif number > 1 and line.strip():
            raise DataError(f"{path} line {number}: {line[:60]!r} names no class such as n01440764")
    return found
