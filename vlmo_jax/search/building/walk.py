"""Finds the pictures of a folder: all of them, or why not."""

import contextlib
import fnmatch
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from vlmo_jax.commands.endings import UserError, describe_os_error
from vlmo_jax.datasets.images import FORMATS

# What cameras and programs write, and Pillow does not read or not whole.
_UNREADABLE = {".heic", ".heif", ".hif", ".jxl", ".svg", ".psd", ".xcf", ".ico", ".tga", ".jxr"}
_RAW = {".arw", ".cr2", ".cr3", ".crw", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw"}
_RAW |= {".rw2", ".srw", ".x3f"}
_READABLE = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
_SUFFIXES = _READABLE | {".avif", ".mpo"} | _UNREADABLE | _RAW
# Folders that systems make for themselves: thumbnails, and what was thrown away.
_SYSTEM = {"@eaDir", "__MACOSX", "$RECYCLE.BIN", "#recycle", "lost+found"}
_TEXT = ".txt"
_CIRCLE = "a link to a folder that is gone through already, or that this one lies in"
_RAW_REASON = "a raw picture of a camera; develop it to JPEG first"


class NoPicturesError(UserError, FileNotFoundError):
    """There is no folder of pictures, or nothing in it."""


class FoundFile(NamedTuple):
    """A picture that was found.

    Attributes:
        path: from the folder, as `os.fsdecode` gives it.
        real: in full, where links lead there, else None.
        size: bytes.
        mtime_ns: time of its last change.
        beside: path of a text file beside it that is called as it is, from the folder.
    """

    path: str
    real: str | None
    size: int
    mtime_ns: int
    beside: str | None


class Walked(NamedTuple):
    """What a folder holds.

    Attributes:
        files: pictures, in the order of the bytes of their paths.
        skipped: {path: why} of pictures and folders that cannot be used.
        closed: folders that could not be looked into, "" for the whole.
        others: files that are called as no picture is.
        hidden: files and folders that are hidden, or a system's own.
        excluded: files and folders that were not wanted.
    """

    files: list[FoundFile]
    skipped: dict[str, str]
    closed: list[str]
    others: int
    hidden: int
    excluded: int


class Walk:
    """Goes through a folder.

    Links to files are followed, and links to folders, but no folder is gone through twice, and none
    that the folder lies in.

    Args:
        root: the folder.
        without: a folder that is left out wherever it is: the index itself.
        exclude: patterns of the shell, of names or of whole paths from the root, in any case.

    Raises:
        NoPicturesError: there is no such folder.
    """

    def __init__(
        self, root: Path, without: Path | None = None, exclude: Sequence[str] = ()
    ) -> None:
        require_pictures(root)
        self._root, self._exclude = root.resolve(), tuple(pattern.lower() for pattern in exclude)
        self._seen = {_identity(os.stat(one)) for one in self._root.parents}
        if without is not None and without.exists():
            self._seen.add(_identity(without.stat()))
        self._links: list[str] = []
        self._found = Walked([], {}, [], 0, 0, 0)

    def run(self) -> Walked:
        """Looks at everything."""
        self._below("")
        while self._links:  # after what lies in the folder itself, which keeps its own paths
            self._below(self._links.pop(0))
        self._found.files.sort(key=lambda one: os.fsencode(one.path))
        return self._found

    def _below(self, top: str) -> None:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                identity = _identity(os.stat(self._at(folder)))
                if identity in self._seen:
                    if folder == top and top:
                        self._skip(f"{folder}/", _CIRCLE)
                    continue
                self._seen.add(identity)
                with os.scandir(self._at(folder)) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                self._skip(f"{folder}/", _reason(error))
                self._found.closed.append(folder)
                continue
            waiting += reversed(list(self._folders(folder, entries)))
            self._files(folder, entries)

    def _folders(self, folder: str, entries: list[os.DirEntry]) -> Iterator[str]:
        for entry in entries:
            if not _is_folder(entry) or self._unwanted(folder, entry.name):
                continue
            if entry.is_symlink():
                self._links.append(_join(folder, entry.name))
            else:
                yield _join(folder, entry.name)

    def _files(self, folder: str, entries: list[os.DirEntry]) -> None:
        files = [e for e in entries if not _is_folder(e) and not self._unwanted(folder, e.name)]
        pictures = [entry for entry in files if _suffix(entry.name) in _SUFFIXES]
        texts = {entry.name for entry in files if _suffix(entry.name) == _TEXT}
        used, real = set(), os.path.realpath(self._at(folder))
        for entry in pictures:
            text = _beside(entry.name, texts)
            used.add(text)
            self._picture(folder, entry, text, real)
        self._count("others", len(files) - len(pictures) - len(used & texts))

    def _picture(self, folder: str, entry: os.DirEntry, text: str | None, real: str) -> None:
        path = _join(folder, entry.name)
        try:
            found = entry.stat()
            where = os.path.join(real, entry.name)
            if entry.is_symlink():
                where = os.path.realpath(where)
        except OSError as error:
            self._skip(path, _reason(error, entry))
            return
        if not stat.S_ISREG(found.st_mode):
            self._skip(path, "it is no regular file")
        elif _suffix(entry.name) in _RAW:
            self._skip(path, _RAW_REASON)
        else:
            link = None if where == self._at(path) else where
            beside = text and _join(folder, text)
            one = FoundFile(path, link, found.st_size, found.st_mtime_ns, beside)
            self._found.files.append(one)

    def _unwanted(self, folder: str, name: str) -> bool:
        if name.startswith(".") or name in _SYSTEM:
            self._count("hidden")
            return True
        path = _join(folder, name)
        names = (name.lower(), path.lower())
        if any(fnmatch.fnmatchcase(one, p) for p in self._exclude for one in names):
            self._count("excluded")
            return True
        return False

    def _at(self, path: str) -> str:
        return os.path.join(self._root, path) if path else str(self._root)

    def _skip(self, path: str, reason: str) -> None:
        self._found.skipped[path] = reason

    def _count(self, what: str, count: int = 1) -> None:
        self._found = self._found._replace(**{what: getattr(self._found, what) + count})


def require_pictures(root: Path) -> None:
    """Refuses what is no folder.

    Raises:
        NoPicturesError: it is none.
    """
    if not root.is_dir():
        what = "a file" if root.exists() else "not there"
        raise NoPicturesError(f"{root} is {what}; give the folder of your pictures")


def _is_folder(entry: os.DirEntry) -> bool:
    with contextlib.suppress(OSError):  # a link to itself
        return entry.is_dir()
    return False


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _beside(name: str, texts: set[str]) -> str | None:
    """The text file that belongs to a picture, such as a.txt or a.jpg.txt to a.jpg."""
    stems = (os.path.splitext(name)[0], name)
    names = [stem + suffix for stem in stems for suffix in (_TEXT, _TEXT.upper())]
    return next((one for one in names if one in texts), None)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _reason(error: OSError, entry: os.DirEntry | None = None) -> str:
    if entry is not None and entry.is_symlink():
        return f"a link to {os.readlink(entry.path)}, which cannot be followed: {error.strerror}"
    return describe_os_error(OSError(error.errno, error.strerror))
