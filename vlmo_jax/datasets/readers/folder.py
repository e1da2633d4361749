"""A folder of your own pictures with a captions file, text files beside them, or nothing.

The command reads one without --format, too, and `python -m vlmo_jax.datasets.build --help` says
what captions files are. With --format=folder it is built on all cores, goes on where it was
stopped, and gets a manifest, as known sets are; the records are the same.

Options:

    --option=captions=FILE     the captions file (default: the one in SRC, or text files beside the
                               images)
    --option=captions=none     take all images and no captions
    --option=split=SPLITS      NAME for all images, or shares such as train=0.9,validation=0.1
    --option=seed=N            of that draw (default: 0)

Left out, each by name: broken and missing images, and images without a caption.
"""

import collections
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping

from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers import captions
from vlmo_jax.datasets.readers.download_walk import walk_all
from vlmo_jax.datasets.readers.image_paths import has_image_suffix
from vlmo_jax.datasets.readers.keys import EXAMPLE
from vlmo_jax.datasets.readers.places import InFile, load_image
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError
from vlmo_jax.datasets.splits import assign_splits, parse_splits
from vlmo_jax.datasets.tables import printable


class FolderReader:
    """Reads a folder of images; a `protocol.Reader`.

    Args:
        source: the folder.
        captions_file: as `captions.read_captions` takes it, None for the one in `source`, or where
            there is none for the text files beside the images.
        with_captions: False takes all images and no captions, as for a folder of images alone.
        splits: one split for all images, or {split: share of the images} with shares that sum to 1,
            drawn at random; None for the splits of the captions file, "train" where it names none.
        seed: of the draw.

    Attributes:
        total: number of images that were listed or named, once `entries` was called.
        blank_captions: number of captions of nothing but white space, which were dropped.
        without_captions: number of image files of the folder that the captions file does not name.
        notes: lines about what was read in another way than the captions file says.

    Raises:
        MissingDataError: there is no such folder.
    """

    license = ""
    published: Mapping[str, Mapping[str, int]] = {}

    def __init__(
        self,
        source: pathlib.Path,
        *,
        captions_file: pathlib.Path | None = None,
        with_captions: bool = True,
        splits: str | Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        if not source.is_dir():
            raise MissingDataError(f"{source} is no folder")
        self._source, self._captions_file = source, captions_file
        self._with_captions, self._splits, self._seed = with_captions, splits, seed
        self._read: captions.Captions | None = None
        self._left_out: dict[str, str] = {}
        self._counts: dict[str, collections.Counter[str]] = {}
        self.total = self.blank_captions = self.without_captions = 0
        self.notes: tuple[str, ...] = ()

    def read(self) -> None:
        """Lists the folder and reads the captions, once.

        Raises:
            MissingDataError, DataError: the captions file cannot be used.
        """
        if self._read is not None:
            return
        self._files = [one.at(name) for one in walk_all(self._source) for name in one.files]
        self._read, self._origin = self._read_captions()
        bare = self._origin is None
        self.kind = records.BARE_IMAGES if bare else records.IMAGES
        self.description = (
            f"Images of {self._source.name} {'without' if bare else 'with the'} captions"
            f"{'' if bare else f' of {self._origin}'}."
        )

    def sources(self) -> list[pathlib.Path]:
        """The captions file, if there is one; see `protocol.Reader`."""
        self.read()
        return [self._captions_file] if self._captions_file else []

    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`, in the order of the captions file."""
        self.read()
        assert self._read is not None
        found, missing, bare = self._read.images, self._read.missing, self._origin is None
        if not found:
            raise DataError(_nothing_found(self._source, self._files, self._read, self._origin))
        usable = [image for image in found if image.texts or bare]
        self._left_out = dict(missing)
        if not bare:
            self._left_out |= {image.path: "no caption" for image in found if not image.texts}
        self.total = len(found) + len(missing)
        self.blank_captions = sum(image.blank for image in found)
        named = _count_images(image.path for image in found)
        self.without_captions = _count_images(self._files) - named
        self.notes = (*self._read.notes, *_links_out(self._source, usable))
        self._files = []
        split_of = assign_splits(usable, self._splits, self._seed)
        names = self._splits if isinstance(self._splits, Mapping) else split_of.values()
        self._counts = {name: collections.Counter() for name in names}
        for image in usable:
            split = split_of[image.path]
            self._counts[split].update({"images": 1, "captions": len(image.texts)})
            content = tuple(image.texts), tuple(image.keywords)
            yield Entry(split, image.path, image.path, content)
        self._read = captions.Captions([], {}, [])

    def load(self, entry: Entry) -> records.Record:
        """As `protocol.Reader`: the bytes of the file, which was decoded once."""
        if printable(entry.record_id) != entry.record_id:
            raise LeftOutError("its name is no UTF-8; rename it")
        data = load_image(self._source, InFile(entry.place))
        texts, keywords = entry.content
        return records.Record(data, texts, keywords, entry.record_id)

    def counts(self) -> dict[str, dict[str, int]]:
        """As `protocol.Reader`: images and captions."""
        return {split: dict(counts) for split, counts in self._counts.items()}

    def left_out(self) -> dict[str, str]:
        """As `protocol.Reader`: names that lead to no image, and images without captions."""
        return dict(self._left_out)

    def _read_captions(self) -> tuple[captions.Captions, str | None]:
        """The captions of the folder, and the name of what they come from; None: images alone."""
        source, files = self._source, self._files
        if self._with_captions:
            path = self._captions_file or captions.find_captions_file(source)
            if path is not None and path.is_dir():
                raise DataError(f"--captions {path} is a folder; name a file in it")
            if path is not None:
                self._captions_file = path
                return captions.read_captions(path, files, source), path.name
            beside = captions.read_sidecars(source, files)
            if beside.images:
                return beside, "text files beside them"
        bare = [captions.CaptionedImage(name) for name in sorted(files) if has_image_suffix(name)]
        note = (
            "the images have no captions: the data set is for stage 1 and visual tokenizers; for"
            " captions name a file with --captions FILE"
        )
        return captions.Captions(bare, {}, [note]), None


def folder_reader(
    source: pathlib.Path, captions: str = "", split: str = "", seed: str = "0"
) -> FolderReader:
    """Makes the reader of `--format=folder`.

    Args:
        source: the folder.
        captions: a captions file, "none" for images alone, "" as of `FolderReader`.
        split: as of `splits.parse_splits`, "" for those of the captions file.
        seed: of the draw, a whole number.

    Raises:
        MissingDataError, DataError: the folder is not there, or an option cannot be read.
    """
    if not seed.isdecimal():
        raise DataError(f"--option seed={seed}: give a whole number")
    return FolderReader(
        source,
        captions_file=user_path(captions).absolute() if captions not in ("", "none") else None,
        with_captions=captions != "none",
        splits=parse_splits(split) if split else None,
        seed=int(seed),
    )


def _nothing_found(
    source: pathlib.Path, files: list[str], read: captions.Captions, origin: str | None
) -> str:
    """Says why no image was found, with an example of each side."""
    example = next(filter(has_image_suffix, files), None)
    if example is None:
        return f"{source} holds no image, subfolders included; give the folder of the images"
    if not read.missing:
        return f"{origin} holds no row; it needs {EXAMPLE}"
    name, reason = next(iter(read.missing.items()))
    return (
        f"{origin} names no image of {source}; the first it names is {name!r} ({reason}), the"
        f" folder has for example {example!r}; give the folder that its paths begin in"
    )


def _links_out(source: pathlib.Path, used: Iterable[captions.CaptionedImage]) -> list[str]:
    """A line for the report about images that are links to somewhere else than below `source`."""
    root = os.path.realpath(source) + os.sep
    real = ((image.path, os.path.realpath(source / image.path)) for image in used)
    out = [(path, target) for path, target in real if not target.startswith(root)]
    if not out:
        return []
    return [
        f"{len(out):,} images are links to outside of {source}; the first is {out[0][0]} ->"
        f" {out[0][1]}"
    ]


def _count_images(paths: Iterable[str]) -> int:
    return sum(map(has_image_suffix, paths))
