"""The place of a data set: nothing, or all of it; one process at a time writes there."""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterator

from vlmo_jax.datasets.errors import PlaceTakenError


@contextlib.contextmanager
def alone_at(out: pathlib.Path) -> Iterator[None]:
    """Inside, no other process writes to `out`; what dead ones left beside it is cleared away."""
    path = out.with_name(f".{out.name}.building")
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode("utf-8", "replace").strip()
            os.close(file)
            raise PlaceTakenError(
                f"another build writes to {out} ({holder or 'just started'}); wait for it, stop it,"
                " or name another folder"
            ) from None
        except OSError:  # a file system without locks
            os.close(file)
            path.unlink(missing_ok=True)
            yield
            return
        # The holder before us may have removed the file between our two calls.
        if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            break
        os.close(file)
    try:
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {os.uname().nodename}".encode())
        _clear_left_overs(out)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _clear_left_overs(out: pathlib.Path) -> None:
    """Removes what killed builds left; a data set that one was about to replace comes back."""
    prefix = f".{out.name}.incomplete-"
    for folder in [path for path in out.parent.iterdir() if path.name.startswith(prefix)]:
        if folder.name.endswith(".replaced") and not out.exists():
            folder.rename(out)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP end the process by way of its `finally` blocks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, lambda n, frame: sys.exit(128 + n))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_place(out: pathlib.Path, overwrite: bool) -> None:
    """Refuses to write where something stands.

    Args:
        out: folder that a data set should go to.
        overwrite: whether a data set there may be replaced.

    Raises:
        PlaceTakenError: `out` exists and `overwrite` is false, or it is no data set.
    """
    if not out.exists():
        return
    if not overwrite:
        raise PlaceTakenError(
            f"{out} already exists; name another folder or give --overwrite to replace it"
        )
    if not (out / "dataset_info.json").is_file():
        raise PlaceTakenError(
            f"{out} exists and is no data set, so --overwrite does not touch it; name another"
            " folder"
        )


def put_in_place(folder: pathlib.Path, out: pathlib.Path, overwrite: bool) -> None:
    """Renames a finished folder to `out`, whose data set it replaces; arguments and errors as of
    `check_place`.
    """
    folder.chmod(0o755)
    check_place(out, overwrite)
    if not out.exists():
        folder.rename(out)
        return
    replaced = out.with_name(f".{out.name}.incomplete-{os.getpid()}.replaced")
    out.rename(replaced)
    folder.rename(out)
    shutil.rmtree(replaced)


def dataset_name(out: pathlib.Path) -> str:
    """Returns the name that TFDS gives the data set of a folder."""
    # TFDS takes letters, digits and underscores, a letter first.
    name = re.sub(r"[^a-z0-9]+", "_", out.name.lower()).strip("_")
    return name if name[:1].isalpha() else f"data_{name}".rstrip("_")
