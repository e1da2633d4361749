"""COCO's captions as COCO gives them, and NoCaps, which has the same form.

Format `coco_captions`:

    SRC/annotations/captions_train2014.json    one of the two is enough; 2017 instead of 2014 too
    SRC/annotations/captions_val2014.json
    SRC/train2014/COCO_train2014_000000000009.jpg
    SRC/val2014/COCO_val2014_000000391895.jpg  or both in SRC/images

Splits: "train" and "validation" (val). Who reports on Karpathy's splits must not train on this
validation split: all their images, and others, are in it; use `coco_karpathy`. Ids are
"coco/391895", as there.

Format `nocaps`:

    SRC/nocaps_val_4500_captions.json
    SRC/.../*.jpg                              images anywhere below, found by their names

Its split is "validation"; the captions of its test split are not public. Ids are "nocaps/17", with
the number that the file gives the image.

Captions come without white space at their ends, all of an image together, in the order of the file.
"""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.captioned_images import (
    CaptionedImagesReader,
    Listed,
    NoFile,
    caption,
)
from vlmo_jax.datasets.readers.coco_ids import coco_record_id
from vlmo_jax.datasets.readers.download_folder import (
    any_image,
    find_file,
    find_file_or_none,
    find_folder,
    list_files,
)
from vlmo_jax.datasets.readers.download_reader import Counts
from vlmo_jax.datasets.readers.json_lists import get, read_items
from vlmo_jax.datasets.readers.places import InFile

_SPLITS = {"train": "train", "val": "validation"}
_YEARS = (2014, 2017)
_PUBLISHED = {  # 2014
    "train": {"images": 82_783, "captions": 414_113},
    "validation": {"images": 40_504, "captions": 202_654},
}
_NOCAPS = "nocaps_val_4500_captions.json"


class CocoCaptionsReader(CaptionedImagesReader):
    """Reads captions_{train,val}{2014,2017}.json and their images.

    Args:
        source: folder of the download.

    Raises:
        MissingDataError: the folder or both files are not there.
        DataError: there are files of both years, which hold the same images.
    """

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        found = {
            (part, year): path
            for year in _YEARS
            for part in _SPLITS
            if (path := find_file_or_none(source, f"captions_{part}{year}.json"))
        }
        if not found:
            raise MissingDataError(
                f"{source} has no captions_train2014.json or captions_val2014.json, nor has a"
                " folder in it; put COCO's annotations there"
            )
        years = {year for _, year in found}
        if len(years) > 1:
            first, *_, last = found.values()
            raise DataError(f"{first} and {last} are about the same images; move one away")
        self._year = years.pop()
        self._files = {part: path for (part, _), path in found.items()}
        self.description = f"COCO's images and captions of {self._year}."
        wanted = [_SPLITS[part] for part in self._files if self._year == _YEARS[0]]
        self.published: Counts = {split: _PUBLISHED[split] for split in wanted}

    def sources(self) -> list[pathlib.Path]:
        """The files of captions."""
        return list(self._files.values())

    def _listed(self) -> Iterator[Listed]:
        for part, path in self._files.items():
            name = f"{part}{self._year}"
            cure = f"unpack COCO's images of {name} there"
            folder = find_folder(self.source, name, cure).relative_to(self.source).as_posix()
            for image in _read(path):
                image_id, place = coco_record_id(image.number), InFile(f"{folder}/{image.name}")
                yield Listed(_SPLITS[part], image_id, place, image.texts, image.where)


class NocapsReader(CaptionedImagesReader):
    """Reads the validation file of NoCaps and its images.

    Args:
        source: folder of the download.

    Raises:
        MissingDataError: the folder or the file is not there.
    """

    description = "NoCaps' validation images with all captions."
    published: Counts = {"validation": {"images": 4_500}}

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        self._file = find_file(source, _NOCAPS, "put NoCaps' annotations there")

    def sources(self) -> list[pathlib.Path]:
        """The file of captions."""
        return [self._file]

    def _listed(self) -> Iterator[Listed]:
        paths = {path.rpartition("/")[2]: path for path in list_files(self.source)}
        if not any_image(paths):
            raise MissingDataError(f"{self.source} has no images; put those of NoCaps there")
        for image in _read(self._file):
            path = paths.get(image.name)
            place = InFile(path) if path else NoFile(f"{image.name} is missing")
            image_id = f"nocaps/{image.number}"
            yield Listed("validation", image_id, place, image.texts, image.where)


class _Image(NamedTuple):
    number: int
    name: str
    texts: list[str]
    where: str


def _read(path: pathlib.Path) -> list[_Image]:
    """The images of a file, in its order, with their captions."""
    images: list[_Image] = []
    texts: dict[int, list[str]] = {}
    places: dict[int, str] = {}
    for name, where, item in read_items(path, "images", "annotations"):
        if name == "images":
            number, file_name = get(item, "id", int, where), get(item, "file_name", str, where)
            images.append(_Image(number, file_name, texts.setdefault(number, []), where))
            continue
        number = get(item, "image_id", int, where)
        if "caption" not in item:
            raise DataError(f"{where} has no caption; is it COCO's file of boxes or keypoints?")
        texts.setdefault(number, []).append(caption(item["caption"], where))
        places.setdefault(number, where)
    unknown = next(iter(places.keys() - {image.number for image in images}), None)
    if unknown is not None:
        raise DataError(f"{places[unknown]} is about image {unknown}, which {path} does not list")
    return images
