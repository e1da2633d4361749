"""Images without captions, in folders and in tars: ImageNet, ImageNet-22k, anyone's own.

Format `image_files`, for stage 1 and visual tokenizers. All images below SRC are taken, whether
they lie in folders, in tars, or in tars within tars:

    SRC/train/n01440764/n01440764_10026.JPEG     ImageNet, unpacked
    SRC/ILSVRC2012_img_train.tar                 ImageNet as it comes: a tar of a tar a class
    SRC/n00004475.tar                            ImageNet-22k: a tar a synset
    SRC/any/folders/picture.png                  anything else

Ids are the paths without the images' endings, "train/n01440764/n01440764_10026", so that the name
of the class is kept; where a folder or a tar holds images that differ by their endings alone, these
are kept too. What a tar holds is named as if the tar were a folder; where there is a folder of its
name too, it keeps ".tar".

Splits: by the first folder from the top, in tars too, that is called train, val(idation) or test,
or by such a word in the name of a tar, as in ILSVRC2012_img_val.tar; else "train".

Images in tars are read in place, nothing is unpacked; packed tars (.tar.gz) are refused. Of a tar
that was cut or is damaged, the images before that place are taken, and the tar is named. JPEGs with
CMYK colours and files that are called after another format than they have are fine. Links to files
and folders are followed in folders, never in tars; in tars names with ".." or "/" in front and what
is no regular file are left out and named. Hidden files, and files that are not called as images
are, such as lists and labels, are not looked at.

Counts (not verified): ImageNet has 1,281,167 images in train and 50,000 in val.
"""

import collections
import pathlib
import posixpath
from collections.abc import Iterator
from typing import NamedTuple

from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import MissingDataError
from vlmo_jax.datasets.readers.download_reader import DownloadReader
from vlmo_jax.datasets.readers.download_walk import Folder, walk
from vlmo_jax.datasets.readers.findings import Findings
from vlmo_jax.datasets.readers.image_paths import has_image_suffix
from vlmo_jax.datasets.readers.places import InFile, InTar, Place
from vlmo_jax.datasets.readers.protocol import Entry
from vlmo_jax.datasets.readers.split_names import split_of
from vlmo_jax.datasets.readers.tars import SUFFIX, list_tar


class FoundImage(NamedTuple):
    """Args: path: that its id comes from. split, place: of it."""

    path: str
    split: str
    place: Place


class ImageFilesReader(DownloadReader):
    """Reads images in folders and tars.

    Args:
        source: the folder.

    Raises:
        MissingDataError: there is no such folder.
    """

    kind = records.BARE_IMAGES

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        self.description = f"Images of {source.name} without captions."
        self._empty: list[str] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines about folders that hold nothing."""
        named = ", ".join(self._empty[:5]) + (" and others" if len(self._empty) > 5 else "")
        return (f"{len(self._empty):,} folders hold no image: {named}",) if self._empty else ()

    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`."""
        self._findings, self._empty = Findings(), []
        listed = 0
        for folder in walk(self.source):
            for entry in self._entries(folder):
                listed += 1
                yield entry
        if not listed:
            first = next((f" ({name}: {why})" for name, why in self.left_out().items()), "")
            raise MissingDataError(
                f"{self.source} holds no images, subfolders and tars included{first}; give their"
                " folder"
            )

    def _entries(self, folder: Folder) -> Iterator[Entry]:
        names = [name for name in folder.files if has_image_suffix(name)]
        paths = [folder.at(name) for name in names]
        if not folder.folders and not any(name.lower().endswith(SUFFIX) for name in folder.files):
            self._empty += [] if names else [folder.path]
        yield from self._named([FoundImage(path, split_of(path), InFile(path)) for path in paths])
        for name in folder.files:
            if name.lower().endswith(SUFFIX):
                stem = name[: -len(SUFFIX)]
                inside = folder.at(name if stem in folder.folders else stem)
                yield from self._tar(folder.at(name), inside, folder.at(name), 0, None)

    def _tar(
        self, path: str, inside: str, named: str, begin: int, end: int | None
    ) -> Iterator[Entry]:
        """What a tar holds, and tars in it.

        Args:
            path: of the file.
            inside: what the ids of its members begin with.
            named: the path of the tar, which may lie in others.
            begin, end: where the tar lies in the file.
        """
        listing = list_tar(self.source / path, begin, end)
        members = [member for member in listing.members if not _hidden(member.name)]
        self._findings.left_out |= {f"{named}: {name}": w for name, w in listing.left_out.items()}
        if listing.problem:
            self._findings.add(split_of(f"{named}/"), {"cut or damaged tars": 1})
            self._findings.left_out[named] = f"{listing.problem}; what comes before is used"
        places = [
            FoundImage(f"{inside}/{m.name}", split_of(f"{named}/{m.name}"), InTar(path, *m[1:]))
            for m in members
            if has_image_suffix(m.name)
        ]
        yield from self._named(places)
        for name, offset, size in members:
            if name.lower().endswith(SUFFIX):
                stem = f"{inside}/{name[: -len(SUFFIX)]}"
                yield from self._tar(path, stem, f"{named}/{name}", offset, offset + size)

    def _named(self, images: list[FoundImage]) -> Iterator[Entry]:
        """Entries of images by their paths."""
        stems = collections.Counter(posixpath.splitext(image.path)[0] for image in images)
        for path, split, place in images:
            stem = posixpath.splitext(path)[0]
            self._findings.add(split, {"images": 1})
            yield Entry(split, stem if stems[stem] == 1 else path, place)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
