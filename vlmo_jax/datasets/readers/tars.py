"""What lies in a plain tar and where, found by its headers alone, so that it is read in place."""

import os
import pathlib
import posixpath
import re
import tarfile
from collections.abc import Iterator
from typing import Any, NamedTuple

from vlmo_jax.datasets.contents import describe_contents
from vlmo_jax.datasets.errors import DataError

SUFFIX = ".tar"
# Tars in which nothing can be read without unpacking all that comes before.
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_ODD = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_BLOCK = 512
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


class Member(NamedTuple):
    """A regular file in a tar.

    Attributes:
        name: its path there, "/" between its parts.
        offset: of its first byte in the tar.
        size: bytes.
    """

    name: str
    offset: int
    size: int


class Listing(NamedTuple):
    """What a tar holds.

    Attributes:
        members: those that are whole, in the order of the tar; of several with one name the last,
            which is the one that unpacking would leave.
        left_out: {name of a member that is not used: why}.
        problem: what is wrong with the tar as a whole, "" if nothing.
    """

    members: list[Member]
    left_out: dict[str, str]
    problem: str


def list_tar(path: pathlib.Path, begin: int = 0, end: int | None = None) -> Listing:
    """Lists a tar, or one that lies in another, without reading what its members hold.

    Links, devices and names that lead out of the tar are left out, never followed. Of a tar that
    was cut or is damaged, the members before that place are listed.

    Args:
        path: of the file.
        begin, end: where in the file the tar begins and ends; None: at its end.

    Raises:
        DataError: the file is no tar.
    """
    found: dict[str, Member] = {}
    left_out: dict[str, str] = {}
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size if end is None else end
        file.seek(begin)
        archive = _open(path, file)
        problem = ""
        for info in _headers(archive):
            if info is None or info.offset_data + info.size > end:
                problem = _cut(end)
                break
            if info.size < 0:
                problem = f"it is damaged at byte {info.offset:,}"
                break
            name = posixpath.normpath(info.name)
            why = _why_not(info)
            if why:
                left_out[shown_name(name)] = why
            elif not info.isdir():
                if name in found:
                    left_out[f"{name} (the first)"] = "a later member of the tar has its name"
                found.pop(name, None)
                found[name] = Member(name, info.offset_data, info.size)
        problem = problem or _problem_of_end(file, archive.offset, end)
    return Listing(list(found.values()), left_out, problem)


def _open(path: pathlib.Path, file: Any) -> tarfile.TarFile:
    begin = file.tell()
    try:
        return tarfile.TarFile(fileobj=file, mode="r")
    except tarfile.TarError as error:
        file.seek(begin)
        what = describe_contents(file.read(4096)) or f"no tar ({error})"
        raise DataError(f"{path} is {what}") from error


def _headers(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo | None]:
    """The members, and None where the tar breaks off."""
    while True:
        try:
            info = archive.next()
        except tarfile.TarError:
            yield None
            return
        archive.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
        if info is None:
            return
        yield info


def _why_not(info: tarfile.TarInfo) -> str:
    """Why a member is not used, "" if it may be."""
    if info.islnk() or info.issym():
        return f"it is a link (to {info.linkname[:60]!r}), which is not followed"
    if info.issparse() or not info.isdir() and info.type not in _REGULAR:
        return "it is no regular file"
    parts = info.name.split("/")
    if info.name.startswith("/") or ".." in parts:
        return "its name leads out of the tar"
    if _ODD.search(info.name):
        return "its name is not UTF-8, or has control characters"
    return ""


def shown_name(name: str) -> str:
    """A name as it can be written in a line: escaped where it is not UTF-8 or has control
    characters, unchanged otherwise.
    """
    return name.encode("unicode_escape").decode() if _ODD.search(name) else name


def _cut(end: int) -> str:
    return f"it was cut at byte {end:,}"


def _problem_of_end(file: Any, offset: int, end: int) -> str:
    """What is wrong behind the last member: a whole tar has blocks of zeros there, nothing else."""
    file.seek(offset)
    block = file.read(max(0, min(_BLOCK, end - offset)))
    if len(block) < _BLOCK:
        return _cut(end)
    if block.strip(b"\0"):
        return f"it is damaged at byte {offset:,}"
    while (at := file.tell()) < end:
        if file.read(min(1 << 20, end - at)).strip(b"\0"):
            return (
                f"it goes on behind its end, after byte {at:,}: several tars were joined to one;"
                " unpack it with `tar --ignore-zeros` and pack it again"
            )
    return ""
