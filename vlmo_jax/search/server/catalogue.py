"""The pictures of an index as clients are told of them."""

import collections
import datetime
from pathlib import Path

import numpy as np
from PIL import Image

from vlmo_jax.datasets.images import FORMATS
from vlmo_jax.datasets.tables import printable
from vlmo_jax.search.index import ChangedPictureError, Index
from vlmo_jax.search.pictures import NoPictureError, Picture
from vlmo_jax.search.questions import Hit
from vlmo_jax.search.server.asked import AboutAnswer, Filters, Folder, Result
from vlmo_jax.search.server.limits import RefusalError

_FOLDERS = 500  # that are listed


class Catalogue:
    """Pictures by id and by date.

    Args:
        index: that is open.
        can_match: whether its model judges matches.
    """

    def __init__(self, index: Index, can_match: bool) -> None:
        self._index = index
        taken = index.pictures.columns.taken
        self._newest = np.argsort(-taken, kind="stable")
        known = taken[taken > 0]
        days = (
            [datetime.date.fromordinal(int(day)) for day in (known.min(), known.max())]
            if (known.size)
            else [None, None]
        )
        self.about = AboutAnswer(
            name=printable(index.root.name),
            pictures=len(index),
            can_match=can_match,
            folders=_folders(index),
            first_taken=days[0],
            last_taken=days[1],
        )

    def newest(self, filters: Filters) -> list[Hit]:
        """Pictures without a query: newest first, those without a date last."""
        allowed = self._index.allowed(filters.folder, filters.since, filters.until)
        rows = self._newest if allowed is None else self._newest[allowed[self._newest]]
        shown = rows[filters.skip : filters.skip + filters.count + 1]
        return [Hit(picture, np.nan) for picture in self._index.pictures.at(shown)]

    def name(self, picture_id: str) -> str:
        """What a picture is called.

        Raises:
            RefusalError: the index has none of that id.
        """
        try:
            row = self._index.pictures.row_of(picture_id)
        except NoPictureError as error:
            raise RefusalError(404, "The index has no such picture (any more).") from error
        return _name(self._index.pictures[row])

    def thumbnail(self, picture_id: str) -> bytes:
        """A small JPEG.

        Raises:
            RefusalError: the index has none of that id.
        """
        try:
            return self._index.thumbnail(picture_id)
        except NoPictureError as error:
            raise RefusalError(404, "The index has no such picture (any more).") from error

    def original(self, picture_id: str) -> tuple[Path, str]:
        """The file of a picture, and what it is as HTTP says it.

        Raises:
            RefusalError: the index has none of that id, or the file is not the one it was.
        """
        try:
            path = self._index.original(picture_id)
            with Image.open(path, formats=FORMATS) as image:
                return path, image.get_format_mimetype() or "application/octet-stream"
        except NoPictureError as error:
            raise RefusalError(404, "The index has no such picture (any more).") from error
        except (ChangedPictureError, OSError) as error:
            text = "The file has been moved or changed since the index was made; make it anew."
            raise RefusalError(404, text) from error


def result_of(hit: Hit) -> Result:
    """A hit as clients are told of it."""
    picture = hit.picture
    # So that an address is that of one content, and may be kept.
    thumbnail = f"/pictures/{picture.id}/thumbnail?v={picture.digest[:12]}"
    return Result(
        id=picture.id,
        name=printable(picture.path.rpartition("/")[2]),
        path=printable(picture.path),
        caption=picture.caption,
        taken=picture.taken,
        width=picture.width,
        height=picture.height,
        score=None if np.isnan(hit.score) else round(float(hit.score), 6),
        probability=None if hit.probability is None else round(hit.probability, 6),
        duplicates=[other.id for other in hit.duplicates],
        thumbnail=thumbnail,
        original=f"/pictures/{picture.id}/original",
    )


def _name(picture: Picture) -> str:
    return picture.caption or printable(picture.path.rpartition("/")[2])


def _folders(index: Index) -> list[Folder]:
    """Those with the most pictures, in the order of their names; of all, those above them too."""
    columns = index.pictures.columns
    here = np.bincount(columns.folder, minlength=len(columns.folders))
    counts: collections.Counter[str] = collections.Counter()
    for path, count in zip(columns.folders, here, strict=True):
        while path:
            counts[path] += int(count)
            path = path.rpartition("/")[0]
    named = [(path, count) for path, count in counts.most_common() if path == printable(path)]
    return [Folder(name=path, pictures=count) for path, count in sorted(named[:_FOLDERS])]
