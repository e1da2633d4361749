"""What an index says about itself, in the one file that is swapped when it changes."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlmo_jax.commands.endings import UserError

NAME = "index.json"
FORMAT = 1
DTYPES = ("float32", "float16")  # of vectors
PARTIAL = ".partial"  # of a file that is not whole yet


class NoIndexError(UserError, FileNotFoundError):
    """There is no index where one is looked for."""


class DamagedIndexError(UserError, ValueError):
    """The files of an index do not go together."""


class OtherModelError(UserError, ValueError):
    """An index is of another model than the one that it is used with."""


@dataclasses.dataclass(frozen=True)
class Origin:
    """What vectors come from: those of different origin must not be compared.

    Attributes:
        model: folder that was loaded, in full.
        checkpoint: of it.
        fingerprint: of its parameters, `Model.fingerprint`.
        preprocessing: of its images, `Model.preprocessing`.
        dimension: D of the vectors.
    """

    model: str
    checkpoint: str
    fingerprint: str
    preprocessing: Mapping[str, Any]
    dimension: int

    def require_same(self, other: "Origin", index: Path, cure: str) -> None:
        """Refuses to mix vectors.

        Args:
            other: the model that is there now.
            index: folder of the vectors of this origin.
            cure: what to do about it, besides giving the right model.

        Raises:
            OtherModelError: something differs that changes vectors; it is named.
        """
        for key, what in (
            ("fingerprint", "weights"),
            ("preprocessing", "preprocessing"),
            ("dimension", "dimension"),
        ):
            ours, theirs = getattr(self, key), getattr(other, key)
            if ours != theirs:
                raise OtherModelError(
                    f"{index} was made with {self.model} ({what} {_short(ours)}), and"
                    f" {other.model} has {_short(theirs)}; give --model of the first, {cure}"
                )


@dataclasses.dataclass(frozen=True)
class About:
    """Of an index.

    Attributes:
        origin: of its vectors.
        pictures: the folder that it is of, in full.
        beside: the same, from the folder of the index: for what was moved together.
        rows: N, pictures.
        skipped: pictures that could not be used.
        dtype: of the vectors, float32 or float16.
        made: when, ISO 8601 with the time zone.
        decoder: what the pictures were decoded with.
        generation: name of the folder that holds vectors and metadata.
        vectors_sha256: of the file of vectors, hexadecimal; the metadata name it, too.
        format: of the index.
    """

    origin: Origin
    pictures: str
    beside: str
    rows: int
    skipped: int
    dtype: str
    made: str
    decoder: str
    generation: str
    vectors_sha256: str
    format: int = FORMAT

    @property
    def model(self) -> str:
        """The folder of the model, as it was when the index was made."""
        return self.origin.model

    def write(self, folder: Path) -> None:
        """Makes this what readers find from now on."""
        text = json.dumps(dataclasses.asdict(self), indent=1) + "\n"
        write_whole(folder / NAME, text.encode())


def read_about(folder: Path) -> About:
    """Reads what an index says about itself.

    Raises:
        NoIndexError: there is none.
        DamagedIndexError: its file is no such thing.
    """
    path = folder / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NoIndexError(
            f"{folder} is no index; make one with: python -m vlmo_jax.search index PICTURES"
            f" {folder} --model=DIR"
        ) from error
    except NotADirectoryError as error:
        raise NoIndexError(f"{folder} is a file, and an index is a folder; name that") from error
    except ValueError as error:
        raise DamagedIndexError(f"{path} is cut or damaged: {error}; {remake(folder)}") from error
    try:
        if found["format"] != FORMAT:
            raise DamagedIndexError(
                f"{folder} is of format {found['format']}, and this version reads {FORMAT};"
                f" {remake(folder)}"
            )
        return About(**{**found, "origin": Origin(**found["origin"])})
    except (KeyError, TypeError) as error:
        raise DamagedIndexError(f"{path} is of no index ({error}); {remake(folder)}") from error


def remake(folder: Path) -> str:
    """The cure of what nothing else mends."""
    return f"make it anew: python -m vlmo_jax.search index PICTURES {folder} --model=DIR --restart"


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that is there whole, or not at all, whatever happens to the machine."""
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder last; where the file system has no such thing, nothing."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)
