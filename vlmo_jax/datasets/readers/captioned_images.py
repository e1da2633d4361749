"""What the readers of images with captions have in common."""

import abc
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.download_folder import read_image
from vlmo_jax.datasets.readers.plain_text import whole
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError

Counts = Mapping[str, Mapping[str, int]]


@dataclasses.dataclass(frozen=True)
class NoFile:
    """In the place of an entry that has no file: the reason."""

    reason: str


class Listed(NamedTuple):
    """An image that a format lists.

    Attributes:
        split: of the data set.
        image_id: unique in it.
        place: path of its file below the download.
        texts: its captions as `caption` gives them, blank ones among them.
        where: it is listed, for messages.
    """

    split: str
    image_id: str
    place: str | NoFile
    texts: list[str]
    where: str


class CaptionedImagesReader(abc.ABC):
    """Reads images with captions; a `protocol.Reader`. Captions are those of the format, in their
    order, each as often as it stands there, without white space at their ends; blank ones are
    dropped and counted, and images without one are left out.

    Args:
        source: folder of the download.

    Raises:
        MissingDataError: there is no such folder.
    """

    kind = records.IMAGES
    description = ""
    license = ""
    published: Counts = {}

    def __init__(self, source: pathlib.Path) -> None:
        if not source.is_dir():
            raise MissingDataError(f"{source} is no folder; give the one of the download")
        self.source = source
        self._counts: dict[str, dict[str, int]] = {}
        self._left_out: dict[str, str] = {}

    @abc.abstractmethod
    def sources(self) -> list[pathlib.Path]:
        """As `protocol.Reader`."""

    @abc.abstractmethod
    def _listed(self) -> Iterator[Listed]:
        """Lists the images in the order of the records; may count and leave out more."""

    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`."""
        self._counts, self._left_out = {}, {}
        seen: set[str] = set()
        for image in self._listed():
            if image.image_id in seen:
                self._refuse_twice(image)
            seen.add(image.image_id)
            texts = tuple(filter(None, image.texts))
            if not texts:
                self._left_out[image.image_id] = "it has no caption"
            self._count(image.split, "images", bool(texts))
            self._count(image.split, "captions", len(texts))
            if len(texts) < len(image.texts):
                self._count(image.split, "blank captions", len(image.texts) - len(texts))
            if texts:
                yield Entry(image.split, image.image_id, image.place, texts)

    def load(self, entry: Entry) -> records.Record:
        """As `protocol.Reader`."""
        if isinstance(entry.place, NoFile):
            raise LeftOutError(entry.place.reason)
        data = read_image(self.source, entry.place)
        return records.Record(data, entry.content, (), entry.record_id)

    def counts(self) -> dict[str, dict[str, int]]:
        """As `protocol.Reader`; "blank captions" where some were dropped."""
        return {split: dict(counts) for split, counts in self._counts.items()}

    def left_out(self) -> dict[str, str]:
        """As `protocol.Reader`."""
        return dict(self._left_out)

    def _count(self, split: str, what: str, number: int = 1) -> None:
        counts = self._counts.setdefault(split, {})
        counts[what] = counts.get(what, 0) + number

    def _refuse_twice(self, image: Listed) -> None:
        first = next(one.where for one in self._listed() if one.image_id == image.image_id)
        raise DataError(
            f"{image.where} is about image {image.image_id}, and so is {first}; take one of them"
            " away"
        )


def caption(value: Any, where: str) -> str:
    """A caption as it was written, without white space at its ends.

    Raises:
        DataError: it is no text, or holds half a character, which cannot be written.
    """
    if not isinstance(value, str):
        raise DataError(f"{where} has {repr(value)[:60]} where a caption must be")
    return whole(value.strip(), where)
