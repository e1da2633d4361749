"""Folders that a command is about to write to."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from vlmo_jax.commands.endings import UserError


class TargetExistsError(UserError, FileExistsError):
    """Something stands where a file or a folder should go."""


@contextlib.contextmanager
def whole_or_nothing(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to work in that becomes `target` if all goes well and vanishes if not.

    Raises:
        TargetExistsError: there is something.
    """
    refuse_existing(target)
    folder = target.with_name(f".{target.name}.{os.getpid()}.partial")
    folder.mkdir(parents=True)
    try:
        yield folder
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def refuse_existing(target: pathlib.Path) -> None:
    """Raises TargetExistsError where there is something."""
    if target.exists():
        raise TargetExistsError(f"{target} exists; choose another name or remove it")


def require_writable(folder: pathlib.Path) -> None:
    """Makes a folder, and a file in it that goes again: what will fail after hours fails now.

    Args:
        folder: made with those above it, if missing.

    Raises:
        OSError: it cannot be made or written to; the error names it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        # The name that counts is the folder's, not that of the file that goes again.
        named = folder if error.filename is None else _known(error.filename, folder)
        raise type(error)(error.errno, error.strerror, str(named)) from error


@contextlib.contextmanager
def naming_folder(folder: pathlib.Path) -> Iterator[None]:
    """Inside, an error of the machine that names no file is about this folder."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.strerror is None:
            raise
        raise type(error)(error.errno, error.strerror, str(folder)) from error


def _known(name: str, folder: pathlib.Path) -> pathlib.Path:
    """What the error names, or the folder where that is a file in it."""
    path = pathlib.Path(name)
    return folder if path.parent == folder else path
