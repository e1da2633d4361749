"""What a command that makes an index has done so far, in parts that are whole or not there; the
next start goes on with them.
"""

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import io
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlmo_jax.commands.endings import UserError
from vlmo_jax.search.about import Origin, write_whole
from vlmo_jax.search.building.prepare import Seen
from vlmo_jax.search.index import MAKING

_ORIGIN = "origin.json"
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP)


class IndexInUseError(UserError, RuntimeError):
    """Another command is making the index."""


class Facts(NamedTuple):
    """What is known of a file's contents beside vector and thumbnail.

    Attributes:
        width, height: in pixels, upright.
        taken: the day, ISO 8601, None where it is not known.
        note: the caption in the file.
    """

    width: int
    height: int
    taken: str | None
    note: str | None


class Part(NamedTuple):
    """What was encoded together.

    Attributes:
        vectors: float32 [n, D].
        thumbnails: n JPEGs.
        seen: the files.
        facts: of them.
    """

    vectors: np.ndarray
    thumbnails: Sequence[bytes]
    seen: Sequence[Seen]
    facts: Sequence[Facts]


class Making:
    """The folder of parts.

    Args:
        folder: of the index.
        origin: of the vectors; parts that are there must have the same.
        restart: remove what is there of another origin.

    Raises:
        OtherModelError: parts that are there have another.
    """

    def __init__(self, folder: Path, origin: Origin, *, restart: bool) -> None:
        self._folder = folder / MAKING
        before = self._origin()
        if before is not None and not (restart and before != origin):
            cure = f"or remove {self._folder}, what a command with that one has done"
            before.require_same(origin, self._folder, cure)
        else:
            self.remove()  # parts of another model, or of nobody knows what
        self._folder.mkdir(exist_ok=True)
        write_whole(self._folder / _ORIGIN, json.dumps(dataclasses.asdict(origin)).encode())

    def _origin(self) -> Origin | None:
        try:
            return Origin(**json.loads((self._folder / _ORIGIN).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def add(self, part: Part) -> int:
        """Keeps a part, and returns its number."""
        number = max((int(path.stem) for path in self._paths()), default=-1) + 1
        texts = [
            {**seen._asdict(), **facts._asdict(), "digest": seen.digest.hex()}
            for seen, facts in zip(part.seen, part.facts, strict=True)
        ]
        file = io.BytesIO()
        np.savez(
            file,
            vectors=part.vectors,
            thumbnails=np.frombuffer(b"".join(part.thumbnails), np.uint8),
            lengths=np.array([len(one) for one in part.thumbnails], np.int64),
            texts=np.frombuffer(json.dumps(texts).encode(), np.uint8),
        )
        write_whole(self._folder / f"{number:06d}.npz", file.getvalue())
        return number

    def parts(self) -> Iterator[tuple[int, Part]]:
        """All parts with their numbers; one that is damaged is left out, and made again."""
        for path in self._paths():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
                yield int(path.stem), _read(path)

    def remove(self) -> None:
        """Removes all."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("*.npz"))


def _read(path: Path) -> Part:
    with np.load(path) as file:
        texts = json.loads(file["texts"].tobytes())
        data, ends = file["thumbnails"].tobytes(), np.cumsum(file["lengths"])
        begins = ends - file["lengths"]
        return Part(
            file["vectors"],
            [data[begin:end] for begin, end in zip(begins, ends, strict=True)],
            [
                Seen(
                    **{**{k: one[k] for k in Seen._fields}, "digest": bytes.fromhex(one["digest"])}
                )
                for one in texts
            ],
            [Facts(**{key: one[key] for key in Facts._fields}) for one in texts],
        )


def as_text(day: datetime.date | None) -> str | None:
    """A day, ISO 8601."""
    return None if day is None else day.isoformat()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other commands from making the same index; the lock ends with the process.

    Raises:
        IndexInUseError: one is at it.
    """
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise IndexInUseError(
                f"{folder} is being made by another command; wait for its end"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
