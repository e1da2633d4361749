"""Walks through a download; archives that cannot be read in place are refused on the way."""

import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.tars import PACKED, SUFFIX, shown_name


class Folder(NamedTuple):
    """A folder of a download.

    Attributes:
        path: relative to that of the download, "" for itself, "/" between its parts.
        folders: names of those in it; what is taken away is not walked through.
        files: names of the files in it, sorted.
    """

    path: str
    folders: list[str]
    files: list[str]

    def at(self, name: str) -> str:
        """The path of something in it."""
        return f"{self.path}/{name}" if self.path else name


def require_folder(source: pathlib.Path) -> pathlib.Path:
    """Returns the folder of a download.

    Raises:
        MissingDataError: there is none.
    """
    if not source.is_dir():
        raise MissingDataError(f"{source} is no folder; give the one of the download")
    return source


def walk_all(root: pathlib.Path) -> Iterator[Folder]:
    """Yields a folder and those below it, sorted; links to folders are followed, but not in a
    circle.
    """
    seen = set()
    for parent, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        path = os.path.relpath(parent, root).replace(os.sep, "/")
        yield Folder("" if path == "." else path, folders, sorted(names))


def walk(root: pathlib.Path) -> Iterator[Folder]:
    """As `walk_all`, hidden files and folders left out.

    Raises:
        DataError: there is an archive that cannot be read in place, or a name that cannot be
            written.
    """
    for folder in walk_all(root):
        folder.folders[:] = [name for name in folder.folders if not name.startswith(".")]
        shown = folder._replace(files=[n for n in folder.files if not n.startswith(".")])
        for name in (*shown.folders, *shown.files):
            if shown_name(name) != name:
                raise DataError(
                    f"{root / folder.path}/{shown_name(name)} has a name that is not UTF-8, or has"
                    " control characters; rename it"
                )
            if name.lower().endswith(PACKED):
                raise DataError(
                    f"{root / folder.at(name)} is packed, and nothing in it can be read in place;"
                    " make a plain tar of it, as `gunzip` does of a .tar.gz, or unpack it and take"
                    " it away"
                )
        yield shown


def tars_below(root: pathlib.Path) -> Iterator[str]:
    """Yields the tars of a folder and of those below it, as paths relative to it."""
    for folder in walk(root):
        yield from (folder.at(name) for name in folder.files if name.lower().endswith(SUFFIX))
