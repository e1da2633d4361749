"""Zip files of torch and numpy: members as views of the mapped file, or inflated if their sizes
make sense.
"""

import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from vlmo_jax.interop.tensor_files.errors import TensorFileError, damaged, shown

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
# Weights hardly shrink; what grows so much, and to so much, was made to fill the memory.
BOMB_BYTES, BOMB_RATIO = 2**26, 100
_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    OverflowError,
    struct.error,
)


class Archive:
    """The members of a zip file.

    Args:
        path: of the file.

    Raises:
        TensorFileError: it is no whole zip file, two members have one name, or they would inflate
            far beyond their stored size or the memory of this machine.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._bytes = path.stat().st_size
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (*_ERRORS, NotImplementedError, UnicodeDecodeError) as error:
            raise damaged(path, error) from error
        self._members = {member.filename: member for member in members}
        self._check(members)
        self._mapped = np.memmap(path, np.uint8, "r")
        self._inflated: dict[str, np.ndarray] = {}

    def _check(self, members: list[zipfile.ZipInfo]) -> None:
        if len(self._members) != len(members):
            raise damaged(self.path, "two members of one name")
        inflated = 0
        for member in members:
            name = shown(member.filename)
            if member.flag_bits & 1:
                raise TensorFileError(f"{self.path}: {name} is encrypted; save it without")
            if member.compress_type not in _METHODS:
                raise TensorFileError(
                    f"{self.path}: {name} is packed in a way that is not known here"
                    f" (method {member.compress_type}); zip it with deflate, or not at all"
                )
            if member.compress_type == zipfile.ZIP_STORED:
                if member.compress_size != member.file_size or member.file_size > self._bytes:
                    raise damaged(self.path, f"{name} has a wrong length")
                continue
            inflated += member.file_size
            grows = member.file_size > BOMB_RATIO * member.compress_size
            if grows and member.file_size > BOMB_BYTES:
                raise TensorFileError(
                    f"{self.path}: {name} would inflate from {member.compress_size:,} to"
                    f" {member.file_size:,} bytes, as no weights do, so it is not read; save it"
                    " without compression if you trust it"
                )
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if inflated > memory:
            raise TensorFileError(
                f"{self.path}: its members inflate to {inflated:,} bytes, and this machine has"
                f" {memory:,}; save it without compression"
            )

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int:
        """Bytes of a member, as they are read."""
        return self._members[name].file_size

    def head(self, name: str, length: int) -> bytes:
        """The first bytes of a member."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(name) as member:
                return member.read(length)
        except _ERRORS as error:
            raise damaged(self.path, f"{shown(name)}: {error}") from error

    def read(self, name: str) -> np.ndarray:
        """The bytes of a member, uint8: a view of the mapped file unless they are compressed.

        Raises:
            TensorFileError: there is no such member, or it is damaged.
        """
        if name not in self._members:
            raise damaged(self.path, f"{shown(name)} is missing in it")
        member = self._members[name]
        if member.compress_type == zipfile.ZIP_STORED:
            start = self._start(member)
            return self._mapped[start : start + member.file_size]
        if name not in self._inflated:
            self._inflated[name] = self._inflate(member)
        return self._inflated[name]

    def _inflate(self, member: zipfile.ZipInfo) -> np.ndarray:
        name = shown(member.filename)
        try:
            with zipfile.ZipFile(self.path) as archive:
                content = archive.read(member)
        except (*_ERRORS, MemoryError) as error:
            raise damaged(self.path, f"{name}: {error}") from error
        if len(content) != member.file_size:
            raise damaged(self.path, f"{name} has a wrong length")
        return np.frombuffer(content, np.uint8)

    def _start(self, member: zipfile.ZipInfo) -> int:
        """Where the bytes of a member that is not compressed begin in the file."""
        at = member.header_offset
        header = self._mapped[at : at + _LOCAL_HEADER.size].tobytes() if at >= 0 else b""
        if len(header) != _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise damaged(self.path, f"{shown(member.filename)} is not where the index says")
        *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start = at + _LOCAL_HEADER.size + name_length + extra_length
        if start + member.file_size > self._bytes:
            raise damaged(self.path, f"{shown(member.filename)} ends after the end of the file")
        return start


def check_sums(path: pathlib.Path) -> None:
    """Compares the content of a zip file with the checksums in it, a piece at a time.

    Raises:
        TensorFileError: some of it is not as it was written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except _ERRORS as error:
        raise damaged(path, error) from error
    if wrong is not None:
        raise damaged(path, f"{shown(wrong)} is not what its checksum says")
