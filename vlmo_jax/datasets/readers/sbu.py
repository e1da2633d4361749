"""SBU's captioned photos: a million URLs with a caption each, and photos that were downloaded.

Format `sbu`, in one of two forms:

    SRC/SBU_captioned_photo_dataset_urls.txt        torchvision's archive, or in SRC/dataset:
    SRC/SBU_captioned_photo_dataset_captions.txt    line by line a URL and its caption
    SRC/4385058960_b0f291553e.jpg                   a photo is called as its URL ends

    SRC/sbu-captions-all.json                       {"image_urls": [...], "captions": [...], ...}
    SRC/4385058960_b0f291553e.jpg

The photos lie beside these files, or in a folder `images` there. Lists of different lengths are an
error: a line that is missing would give every photo behind it the caption of another.

All records are of the split "train". Ids are "sbu/4385058960_b0f291553e.jpg". A URL that stands
there again adds its caption to the same photo. Two URLs that end alike would be one file; both are
left out. Many photos are gone from Flickr (img2dataset got about 860,000 at the time, today far
fewer): missing ones are left out, counted and named; how many may be is `--max_broken`.

URLs and captions are held in memory: 0.75 KiB a photo, measured with 200,000 made-up lines, so 0.75
GiB in all. The photos of img2dataset are formats of their own, and VLMo's and ViLT's annot.json is
`annot_json`.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.captioned_images import CaptionedImagesReader, Listed, caption
from vlmo_jax.datasets.readers.download_folder import any_image, find_file_or_none
from vlmo_jax.datasets.readers.download_reader import Counts
from vlmo_jax.datasets.readers.json_lists import is_name, read_items
from vlmo_jax.datasets.readers.places import InFile
from vlmo_jax.datasets.readers.plain_text import read_lines, whole

_URLS = "SBU_captioned_photo_dataset_urls.txt"
_CAPTIONS = "SBU_captioned_photo_dataset_captions.txt"
_JSON = "sbu-captions-all.json"


class SbuReader(CaptionedImagesReader):
    """Reads the lists and the photos.

    Args:
        source: folder of the download.

    Raises:
        MissingDataError: the folder or the lists are not there.
    """

    description = "SBU's captioned photos, as far as they could be downloaded."
    published: Counts = {"train": {"images": 1_000_000}}

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        urls, whole = find_file_or_none(source, _URLS), find_file_or_none(source, _JSON)
        if urls is not None:
            self._files = [urls, urls.with_name(_CAPTIONS)]
        elif whole is not None:
            self._files = [whole]
        else:
            raise MissingDataError(
                f"{source} has neither {_URLS} nor {_JSON}, nor has a folder in it; put one there"
            )
        if not self._files[-1].is_file():
            raise MissingDataError(f"{self._files[-1]} is missing beside {_URLS}; unpack it too")

    def sources(self) -> list[pathlib.Path]:
        """The lists."""
        return self._files

    def _listed(self) -> Iterator[Listed]:
        folder = self._folder()
        for name, photo in self._photos().items():
            image_id = f"sbu/{name}"
            if photo.other:
                self._findings.left_out[image_id] = f"its file is also that of {photo.other}"
                continue
            yield Listed("train", image_id, InFile(f"{folder}{name}"), photo.texts, photo.where)

    def _folder(self) -> str:
        """Where the photos are, relative to the download, with "/" at its end."""
        beside = self._files[0].parent
        for folder in (beside / "images", beside):
            if folder.is_dir() and any_image(entry.name for entry in os.scandir(folder)):
                path = folder.relative_to(self.source).as_posix()
                return "" if path == "." else f"{path}/"
        raise MissingDataError(
            f"{beside} has no photos, nor has {beside / 'images'}; download them there, as"
            " torchvision.datasets.SBU does"
        )

    def _photos(self) -> dict[str, "_Photo"]:
        """{name of the file: what is said about it}, in the order of the lists."""
        urls, texts = _lists(self._files)
        found: dict[str, _Photo] = {}
        for number, (url, text) in enumerate(zip(urls, texts, strict=True), 1):
            where = f"{self._files[0]} URL {number}"
            name = _name(url, where)
            photo = found.setdefault(name, _Photo(url, where))
            if photo.url == url:
                photo.texts.append(caption(text, where))
            else:
                photo.other = url
        return found


@dataclasses.dataclass(slots=True)
class _Photo:
    url: str
    where: str
    other: str = ""  # another URL that ends alike
    texts: list[str] = dataclasses.field(default_factory=list)


def _lists(files: list[pathlib.Path]) -> tuple[list[Any], list[Any]]:
    """URLs and captions, as many of each."""
    if len(files) == 1:
        lists: dict[str, list] = {"image_urls": [], "captions": []}
        for name, _, value in read_items(files[0], *lists):
            lists[name].append(value)
        urls, texts = lists.values()
        names = [f"{name} of {files[0]}" for name in lists]
    else:
        urls, texts = [[line.strip() for line in read_lines(path)] for path in files]
        names = list(map(str, files))
    if len(urls) != len(texts):
        raise DataError(
            f"{names[0]} has {len(urls)} entries and {names[1]} {len(texts)}; they must be"
            " parallel: download both again"
        )
    return urls, texts


def _name(url: Any, where: str) -> str:
    """What the file of a URL is called."""
    name = whole(url, where).rpartition("/")[2] if isinstance(url, str) else ""
    if not is_name(name):
        raise DataError(f"{where} is {repr(url)[:60]}, which names no photo")
    return name
