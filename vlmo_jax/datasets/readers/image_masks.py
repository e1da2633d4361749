"""Images with masks, in folders: ADE20K as SceneParse150 has it, and anyone's own.

Format `image_masks`, for segmentation. The images lie below SRC/images, the masks at the same paths
below SRC/annotations (or masks, or labels), whatever their endings:

    SRC/images/training/ADE_train_00000001.jpg
    SRC/annotations/training/ADE_train_00000001.png

A mask is a PNG of grey values or with a palette, whose numbers are the classes; its bytes are kept.
Splits: by a folder that is called train(ing), val(idation) or test, else "train". Left out and
named are images without a mask, masks without an image, and masks of another size than their image
or that have colours. Which label means what is said when a model is trained: `classes.txt` beside
the records, a class a line from the first one that counts, gives them names.

Counts of ADE20K: 20,210 in training, 2,000 in validation.
"""

import io
import pathlib
import posixpath
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from vlmo_jax.datasets import images, records
from vlmo_jax.datasets.errors import MissingDataError
from vlmo_jax.datasets.masks import BrokenMaskError, decode_mask
from vlmo_jax.datasets.readers.download_reader import DownloadReader
from vlmo_jax.datasets.readers.download_walk import walk
from vlmo_jax.datasets.readers.findings import Findings
from vlmo_jax.datasets.readers.image_paths import has_image_suffix
from vlmo_jax.datasets.readers.places import InFile, load_image
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError
from vlmo_jax.datasets.readers.split_names import split_of

IMAGES, MASKS = "images", ("annotations", "masks", "labels")


class Pair(NamedTuple):
    """Where the files of an image and its mask lie."""

    image: InFile
    mask: InFile


class ImageMasksReader(DownloadReader):
    """Reads images and masks at the same paths of two folders.

    Args:
        source: the folder of both.

    Raises:
        MissingDataError: one is not there.
    """

    kind = records.SEGMENTATIONS

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        self.description = f"Images of {source.name} with the class of each pixel."
        found = [name for name in MASKS if (source / name).is_dir()]
        if not (source / IMAGES).is_dir() or not found:
            raise MissingDataError(
                f"{source} must hold the folders {IMAGES} and one of {', '.join(MASKS)}; of ADE20K"
                " give ADEChallengeData2016"
            )
        self._masks = found[0]

    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`."""
        self._findings = Findings()
        pictures, masks = self._files(IMAGES), self._files(self._masks)
        if not pictures:
            raise MissingDataError(f"{self.source / IMAGES} holds no images")
        for stem, path in pictures.items():
            if stem in masks:
                split = split_of(path)
                self._findings.add(split, {"images": 1})
                yield Entry(split, stem, Pair(InFile(path), InFile(masks[stem])))
            else:
                self._findings.left_out[path] = f"it has no mask below {self._masks}"
        for stem in sorted(set(masks) - set(pictures)):
            self._findings.left_out[masks[stem]] = "a mask without an image"

    def _files(self, name: str) -> dict[str, str]:
        """Path without ending below a folder -> path below the download."""
        found: dict[str, str] = {}
        for folder in walk(self.source / name):
            for file in filter(has_image_suffix, folder.files):
                path = folder.at(file)
                stem = posixpath.splitext(path)[0]
                if stem in found:
                    self._findings.left_out[f"{name}/{path}"] = f"{found[stem]} has the same name"
                else:
                    found[stem] = f"{name}/{path}"
        return found

    def load(self, entry: Entry) -> records.SegmentationRecord:
        """As `protocol.Reader`."""
        image, mask = load_image(self.source, entry.place.image), entry.place.mask.read(self.source)
        try:
            height, width = decode_mask(mask).shape
        except BrokenMaskError as error:
            raise LeftOutError(str(error)) from error
        size = _upright_size(image)
        if size != (width, height):
            raise LeftOutError(
                f"the mask has {width} x {height} pixels and the image {size[0]} x {size[1]}"
            )
        return records.SegmentationRecord(image, np.frombuffer(mask, np.uint8), entry.record_id)


def _upright_size(image: bytes) -> tuple[int, int]:
    """Width and height as `images.decode_image` gives the image, by its header alone."""
    with Image.open(io.BytesIO(image), formats=images.FORMATS) as opened:
        turned = opened.getexif().get(0x0112, 1) > 4
        return opened.size[::-1] if turned else opened.size
