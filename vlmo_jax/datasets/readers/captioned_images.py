"""What the readers of images with captions have in common."""

import abc
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.download_reader import DownloadReader
from vlmo_jax.datasets.readers.findings import Findings
from vlmo_jax.datasets.readers.places import InFile, load_image_file
from vlmo_jax.datasets.readers.plain_text import whole
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError


class NoFile(NamedTuple):
    """In the place of an image that has no file.

    Attributes:
        reason: why.
    """

    reason: str


class Listed(NamedTuple):
    """An image that a format lists.

    Attributes:
        split: of the data set.
        image_id: unique in it.
        place: of its file, below the download.
        texts: its captions as `caption` gives them, blank ones among them.
        where: it is listed, for messages.
    """

    split: str
    image_id: str
    place: InFile | NoFile
    texts: list[str]
    where: str


class CaptionedImagesReader(DownloadReader):
    """Reads images with captions. Captions are those of the format, in their order, each as often
    as it stands there, without white space at their ends; blank ones are dropped and counted, and
    images without one are left out.

    Args:
        source: folder of the download.

    Raises:
        MissingDataError: there is no such folder.
    """

    @abc.abstractmethod
    def sources(self) -> list[pathlib.Path]:
        """As `protocol.Reader`."""

    @abc.abstractmethod
    def _listed(self) -> Iterator[Listed]:
        """Lists the images in the order of the records; may add to the findings."""

    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`."""
        self._findings = Findings()
        seen: set[str] = set()
        for image in self._listed():
            if image.image_id in seen:
                self._refuse_twice(image)
            seen.add(image.image_id)
            texts = tuple(filter(None, image.texts))
            numbers = {
                "images": int(bool(texts)),
                "captions": len(texts),
                "blank captions": len(image.texts) - len(texts),
            }
            self._findings.add(image.split, numbers)
            if not texts:
                self._findings.left_out[image.image_id] = "no caption"
                continue
            yield Entry(image.split, image.image_id, image.place, texts)

    def load(self, entry: Entry) -> records.Record:
        """As `protocol.Reader`."""
        if isinstance(entry.place, NoFile):
            raise LeftOutError(entry.place.reason)
        image = load_image_file(self.source, entry.place.path)
        return records.Record(image, entry.content, (), entry.record_id)

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
