"""Visual Genome's regions: every phrase about a region is a caption of the whole image, as VLMo and
ViLT pre-train.

Format `visual_genome`, of version 1.0 and later ones:

    SRC/region_descriptions.json            or both in SRC/annotations
    SRC/image_data.json
    SRC/VG_100K/2.jpg                       or both in SRC/images; an image may lie in either
    SRC/VG_100K_2/1.jpg
    SRC/dataset_coco.json                   Karpathy's file, or in SRC/karpathy; see below

All records are of the split "train", in the order of region_descriptions.json. Ids are
"vg/2370799", and "vg/2370799/coco/391895" where image_data.json says which image of COCO it is.

About half of the images (51,208; not verified) are COCO's, some of them of its Karpathy validation
and test splits. With dataset_coco.json beside the other files these are kept out, and counted for
each of the splits; without it they stay. The description of the data set says which. Who evaluates
on COCO puts the file there.

An image has some 50 phrases, some of them twice or nearly so; all are kept in their order, without
white space at their ends, and blank ones are dropped and counted. Images that image_data.json lists
and no region describes are left out; so are missing ones, as everywhere.

region_descriptions.json is read entry by entry: a made-up one of 138 MiB and 1,000,000 regions took
13 MiB of memory and 1.2 s, where json.load takes 540 MiB.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.captioned_images import (
    CaptionedImagesReader,
    Listed,
    NoFile,
    caption,
)
from vlmo_jax.datasets.readers.coco_ids import coco_record_id
from vlmo_jax.datasets.readers.download_folder import (
    find_file,
    find_file_or_none,
    find_folders,
    list_files,
)
from vlmo_jax.datasets.readers.download_reader import Counts
from vlmo_jax.datasets.readers.json_lists import get, read_items
from vlmo_jax.datasets.readers.karpathy import COCO_FILE, coco_evaluation_images
from vlmo_jax.datasets.readers.places import InFile

FOLDERS = ("VG_100K", "VG_100K_2")
_KEYS = ("image_id", "id")  # of an image; the second is that of version 1.0
_CURE = "it comes from visualgenome.org; take both JSON files of one version"


class VisualGenomeReader(CaptionedImagesReader):
    """Reads region_descriptions.json, image_data.json and the images.

    Args:
        source: folder of the download.

    Raises:
        MissingDataError: the folder or one of the two files is not there.
    """

    published: Counts = {"train": {"images": 108_077}}

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        self._regions = find_file(source, "region_descriptions.json", _CURE)
        self._images = find_file(source, "image_data.json", _CURE)
        self._karpathy = find_file_or_none(source, COCO_FILE)
        state = "kept out" if self._karpathy else "among them"
        self.description = (
            "Visual Genome's images with their regions' phrases as captions; images of COCO's"
            f" Karpathy validation and test splits are {state}."
        )

    def sources(self) -> list[pathlib.Path]:
        """The JSON files, Karpathy's among them where it is there."""
        karpathy = [self._karpathy] if self._karpathy else []
        return [self._regions, self._images, *karpathy]

    def _listed(self) -> Iterator[Listed]:
        folders = find_folders(self.source, FOLDERS, "unpack the images there")
        files = {
            name: InFile((folder / name).relative_to(self.source).as_posix())
            for folder in folders
            for name in list_files(folder)
        }
        coco_ids = self._coco_ids()
        kept_apart = coco_evaluation_images(self._karpathy) if self._karpathy else {}
        described = set()
        for _, where, entry in read_items(self._regions):
            number, texts = _phrases(entry, where)
            if number not in coco_ids:
                raise DataError(
                    f"{where} is about image {number}, which {self._images} does not list; take"
                    " both files of one version"
                )
            described.add(number)
            coco_id = coco_ids[number]
            if coco_id in kept_apart:
                what = f"kept out: COCO's Karpathy {kept_apart[coco_id]}"
                self._findings.add("train", {what: 1})
                continue
            image_id = _record_id(number, coco_id)
            missing = NoFile(f"{number}.jpg is missing in {' and '.join(f.name for f in folders)}")
            yield Listed("train", image_id, files.get(f"{number}.jpg", missing), texts, where)
        for number, coco_id in coco_ids.items():
            if number not in described:
                self._findings.left_out[_record_id(number, coco_id)] = "no region describes it"

    def _coco_ids(self) -> Mapping[int, int | None]:
        """{number of an image: of the same in COCO, None where it is not COCO's}."""
        found: dict[int, int | None] = {}
        for _, where, image in read_items(self._images):
            number = get(image, _KEYS, int, where)
            if number in found:
                items = read_items(self._images)
                first = next(i.where for i in items if get(i.value, _KEYS, int, i.where) == number)
                raise DataError(f"{where} lists image {number}, and so does {first}; delete one")
            in_coco = image.get("coco_id") is not None
            found[number] = get(image, "coco_id", int, where) if in_coco else None
        return found


def _phrases(entry: Any, where: str) -> tuple[int, list[str]]:
    """The image that an entry of region_descriptions.json is about, and its captions."""
    number = get(entry, _KEYS, int, where)
    texts = []
    for region in get(entry, "regions", list, where):
        own = region.get("image_id", region.get("image")) if isinstance(region, dict) else None
        if own is not None and str(own) != str(number):
            raise DataError(f"{where} is about image {number} and has a region of image {own}")
        if not isinstance(region, dict) or "phrase" not in region:
            raise DataError(f"{where} has the region {repr(region)[:60]}, which has no 'phrase'")
        texts.append(caption(region["phrase"], where))
    return number, texts


def _record_id(number: int, coco_id: int | None) -> str:
    suffix = "" if coco_id is None else f"/{coco_record_id(coco_id)}"
    return f"vg/{number}{suffix}"
