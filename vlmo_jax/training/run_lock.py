"""One run in a work folder at a time, and one work folder for all processes of a run."""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import jax

from vlmo_jax.commands.endings import UserError
from vlmo_jax.parallel.agreement import DisagreementError, tell_all, together
from vlmo_jax.reports.metrics import announce

NAME = "run.lock"
# How long a file that one machine has written may take to be seen by another.
_SECONDS = 30.0
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP)


class WorkdirInUseError(UserError, RuntimeError):
    """Another run is in the work folder."""


@contextlib.contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """Keeps other runs out of a work folder; all processes of a job come here.

    The lock is one of the file system: it ends with the process that holds it, however that ends,
    also on another machine of a shared file system. What the file says is for people.

    Args:
        workdir: made if it is not there.

    Raises:
        WorkdirInUseError: another run is in it.
        DisagreementError: the processes of this job see different folders.
    """
    with contextlib.ExitStack() as stack:
        token = 0
        with together("take the work folder"):
            if jax.process_index() == 0:
                token = secrets.randbits(31)
                stack.enter_context(_hold(workdir, token))
        token = tell_all(token)
        with together("see the work folder"):
            if jax.process_index() != 0:
                _find(workdir, token)
        yield


@contextlib.contextmanager
def _hold(workdir: Path, token: int) -> Iterator[None]:
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / NAME
    with _open_locked(path) as file:
        holder = {"host": socket.gethostname(), "process": os.getpid(), "token": token}
        file.truncate()
        json.dump({**holder, "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}, file)
        file.flush()
        os.fsync(file.fileno())
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _open_locked(path: Path) -> IO[str]:
    """The open lock file, locked; not one that another run is about to remove."""
    while True:
        file = open(path, "a+")  # noqa: SIM115  # open as long as the lock holds
        file.seek(0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                raise WorkdirInUseError(_describe(path, file.read())) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                file.close()
                raise
            announce(
                f"{path.parent} is on a file system without locks: two runs in it would spoil"
                " each other unnoticed."
            )
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()


def _describe(path: Path, text: str) -> str:
    try:
        holder = json.loads(text)
        who = f"process {holder['process']} on {holder['host']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return (
        f"{path.parent} is in use by another run ({who}); wait for its end or stop it, or use"
        " another --workdir"
    )


def _find(workdir: Path, token: int) -> None:
    """Waits for the lock file of process 0 to be seen."""
    path, end = workdir / NAME, time.monotonic() + _SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(path.read_text())["token"] == token:
                return
        time.sleep(0.2)
    raise DisagreementError(
        f"process {jax.process_index()} on {socket.gethostname()} sees another folder at"
        f" --workdir={workdir} than process 0: give one that all machines see"
    )
