"""Karpathy's splits of COCO and Flickr30k (and Flickr8k): images with five captions or more.

Formats `coco_karpathy`, `flickr30k_karpathy` and `flickr8k_karpathy`. The captions come from
caption_datasets.zip, the images from COCO (train2014.zip, val2014.zip) and from Flickr30k's form:

    SRC/dataset_coco.json                   or SRC/karpathy/dataset_coco.json
    SRC/train2014/COCO_train2014_000000000009.jpg
    SRC/val2014/COCO_val2014_000000391895.jpg      or both in SRC/images

    SRC/dataset_flickr30k.json              or SRC/karpathy/dataset_flickr30k.json
    SRC/flickr30k-images/1000092795.jpg     or in flickr30k_images, Images or images

Splits: "train" (of COCO the file's train and restval, 113,287 images, as VLMo, ViLT and BEiT-3
train), "validation" (val) and "test"; `--option splits=validation,test` takes some of them, and
needs no images of the others. Records stand in the order of the file, so that COCO's five folds of
1,000 test images are consecutive records. The protocols of retrieval (all captions of an image, or
its first five) choose among the captions; all are kept here, 5, 6 or 7.

Captions are the file's `raw`, without the blanks and line breaks at their ends that some have. Ids
are "coco/391895", with COCO's number, by which images of Visual Genome are known again, and
"flickr30k/1000092795". A file called .jpg that holds a PNG is taken by what it holds.

Flickr8k is taken to have the same form; where its images lie was not verified: Flicker8k_Dataset,
Flickr8k_Dataset, Images or images.
"""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.captioned_images import CaptionedImagesReader, Listed, caption
from vlmo_jax.datasets.readers.coco_ids import coco_record_id
from vlmo_jax.datasets.readers.download_folder import find_file, find_folder
from vlmo_jax.datasets.readers.download_reader import Counts
from vlmo_jax.datasets.readers.json_lists import get, read_items
from vlmo_jax.datasets.readers.places import InFile

COCO_FILE = "dataset_coco.json"
SPLITS = {"train": "train", "restval": "train", "val": "validation", "test": "test"}
_CURE = "it is in caption_datasets.zip"


class KarpathyReader(CaptionedImagesReader):
    """Reads one of the files; what differs between them is in the classes below.

    Args:
        source: folder of the download.
        splits: names of those to list, with commas between them, "" for all.

    Raises:
        MissingDataError, DataError: the folder or the file is not there, or there is no such split.
    """

    file_name = ""
    image_folders: Sequence[str] = ()

    def __init__(self, source: pathlib.Path, splits: str = "") -> None:
        super().__init__(source)
        known = list(dict.fromkeys(SPLITS.values()))
        self._splits = splits.split(",") if splits else known
        unknown = next((split for split in self._splits if split not in known), None)
        if unknown is not None:
            raise DataError(f"splits={splits}: there is no {unknown!r}, only {', '.join(known)}")
        self.published = {
            split: counts for split, counts in self.published.items() if split in self._splits
        }
        self._file = find_file(source, self.file_name, _CURE)

    def sources(self) -> list[pathlib.Path]:
        """The file of captions."""
        return [self._file]

    def _listed(self) -> Iterator[Listed]:
        folders: dict[str, str] = {}
        for _, where, image in read_items(self._file, "images"):
            split = _split(image, where)
            if split not in self._splits:
                continue
            folder = self._folder(image, where)
            if folder not in folders:
                folders[folder] = self._find(folder)
            place = InFile(f"{folders[folder]}/{get(image, 'filename', str, where)}")
            sentences = get(image, "sentences", list, where)
            texts = [caption(_raw(sentence, where), where) for sentence in sentences]
            yield Listed(split, self._image_id(image, where), place, texts, where)

    def _folder(self, image: Any, where: str) -> str:
        """The folder that the file names, "" where it names none."""
        return ""

    def _find(self, folder: str) -> str:
        """The path of a folder, relative to the download."""
        names = (folder,) if folder else self.image_folders
        cure = "unpack the images there"
        return find_folder(self.source, names, cure).relative_to(self.source).as_posix()

    def _image_id(self, image: Any, where: str) -> str:
        name = get(image, "filename", str, where)
        return f"{self.file_name.removeprefix('dataset_').removesuffix('.json')}/{_stem(name)}"


class CocoKarpathyReader(KarpathyReader):
    """Reads COCO's images and captions."""

    description = "COCO's images with all captions, Karpathy's splits (restval in train)."
    published: Counts = {
        "train": {"images": 113_287, "captions": 566_747},
        "validation": {"images": 5_000, "captions": 25_010},
        "test": {"images": 5_000, "captions": 25_010},
    }
    file_name = COCO_FILE

    def _folder(self, image: Any, where: str) -> str:
        return get(image, "filepath", str, where)

    def _image_id(self, image: Any, where: str) -> str:
        return coco_record_id(get(image, "cocoid", int, where))


class Flickr30kKarpathyReader(KarpathyReader):
    """Reads Flickr30k's images and captions."""

    description = "Flickr30k's images with all captions, Karpathy's splits."
    published: Counts = {
        "train": {"images": 29_000, "captions": 145_000},
        "validation": {"images": 1_014, "captions": 5_070},
        "test": {"images": 1_000, "captions": 5_000},
    }
    file_name = "dataset_flickr30k.json"
    image_folders = ("flickr30k-images", "flickr30k_images", "Images", "images")


class Flickr8kKarpathyReader(KarpathyReader):
    """Reads Flickr8k's images and captions."""

    description = "Flickr8k's images with all captions, Karpathy's splits."
    file_name = "dataset_flickr8k.json"
    image_folders = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images")


def coco_evaluation_images(path: pathlib.Path) -> dict[int, str]:
    """The images of COCO that Karpathy's validation and test splits hold.

    Args:
        path: of dataset_coco.json.

    Returns:
        {number of the image: split}.

    Raises:
        MissingDataError, DataError: there is no such file, or it is another.
    """
    found = {}
    for _, where, image in read_items(path, "images"):
        split = _split(image, where)
        if split != "train":
            found[get(image, "cocoid", int, where)] = split
    return found


def numbered_captions(path: pathlib.Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The captions of a file by the numbers that detectors call its images by.

    Args:
        path: of dataset_coco.json, whose images have a `cocoid`, or of another one, in which the
            number is the file's name.

    Returns:
        {number: (split, captions)}.

    Raises:
        MissingDataError, DataError: there is no such file, or it is another.
    """
    found = {}
    for _, where, image in read_items(path, "images"):
        name = get(image, "filename", str, where)
        number = str(image["cocoid"]) if "cocoid" in image else _stem(name)
        sentences = get(image, "sentences", list, where)
        texts = tuple(caption(_raw(sentence, where), where) for sentence in sentences)
        found[number] = (_split(image, where), texts)
    return found


def _split(image: Any, where: str) -> str:
    name = get(image, "split", str, where)
    if name not in SPLITS:
        raise DataError(f"{where} has split {name[:60]!r}; known are {', '.join(SPLITS)}")
    return SPLITS[name]


def _raw(sentence: Any, where: str) -> Any:
    """What a sentence says; it may be blank."""
    if not isinstance(sentence, dict) or "raw" not in sentence:
        raise DataError(f"{where} has the sentence {repr(sentence)[:60]}, which has no 'raw'")
    return sentence["raw"]


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0] or name
