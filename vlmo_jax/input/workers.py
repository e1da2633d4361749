"""The processes that make batches: how they start, and how they end.

Each lives as long as the process that it works for and not a moment longer, however that one ends;
signals to a whole terminal or job step are for that process alone.
"""

import contextlib
import gc
import math
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from multiprocessing import connection, resource_tracker

import numpy as np
from grain._src.python.ipc.shared_memory_array import SharedMemoryArray

from vlmo_jax.commands.endings import UserError
from vlmo_jax.input.schema import Column

# What Linux lends processes to share memory in; Docker gives a container 64 MB of it.
SHARED_MEMORY = pathlib.Path("/dev/shm")

_OF_TERMINALS = (signal.SIGINT, signal.SIGHUP)

_UNGUARDED = 78  # exit status of a worker that has run the script it was to leave alone
_SECONDS_AFTER_SIGTERM = 300

_REASONS = {
    _UNGUARDED: (
        "the script runs as a whole in each of them: put what it does below"
        ' `if __name__ == "__main__":`, or set config.data.num_workers=0'
    ),
    -signal.SIGKILL: (
        "the system has killed it, most likely because memory ran out: lower"
        " config.data.num_workers or config.data.prefetch"
    ),
    -signal.SIGBUS: (
        f"{SHARED_MEMORY} is full: give it more, for Docker with --shm-size=8g, or set"
        " config.data.num_workers=0"
    ),
}


class WorkerError(UserError, RuntimeError):
    """A process that makes batches has ended, or cannot start."""


class UnguardedScriptError(WorkerError, SystemExit):
    """A script of somebody's own trains with workers and has no guard of its main part: it ends
    with this line, and without the traceback of a script that did nothing wrong but this.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = f"error: {message}"


def refuse_in_worker() -> None:
    """Ends this process if it is one that is just being started, by a script that does its work
    whenever it is imported.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(_UNGUARDED)


def begin_worker(index: int, count: int) -> None:
    """What a worker does first.

    Args:
        index: which one.
        count: of how many.
    """
    del index, count
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker is a child
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    for number in _OF_TERMINALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    # Not the system's PR_SET_PDEATHSIG: it acts when the thread that has started the worker ends.
    connection.wait([parent.sentinel])
    os._exit(1)


def _end_soon(number: int, frame: object) -> None:
    """A job step's SIGTERM reaches workers too, whose batches are needed until all processes have
    agreed to stop; they end with the run, or some time later.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_SECONDS_AFTER_SIGTERM)


@contextlib.contextmanager
def deaf_to_terminals() -> Iterator[None]:
    """Threads and processes that are started inside do not get Ctrl-C or a closed terminal."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_TERMINALS)
    try:
        # Python starts this one beside the first worker, and lets SIGINT through again for it.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _OF_TERMINALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def require_shared_memory(columns: Mapping[str, Column], rows: int, batches: int) -> None:
    """Refuses workers whose batches do not fit into the memory that they are handed over in: they
    would be killed by SIGBUS, later and without a word.

    Args:
        columns: the arrays of a batch.
        rows: of a batch.
        batches: how many are kept ready.

    Raises:
        WorkerError: there is too little.
    """
    if not SHARED_MEMORY.is_dir():
        return
    state = os.statvfs(SHARED_MEMORY)
    free = state.f_bavail * state.f_frsize
    size = rows * sum(
        math.prod(column.shape) * np.dtype(column.dtype).itemsize for column in columns.values()
    )
    if size * batches > free:
        raise WorkerError(
            f"{SHARED_MEMORY} has {free / 1e6:,.0f} MB free, and the {batches} batches of"
            f" {size / 1e6:,.1f} MB that the workers keep ready need {size * batches / 1e6:,.0f}"
            " MB there: give it more, for Docker with --shm-size=8g, or set"
            " config.data.num_workers=0"
        )


def free_shared_memory() -> None:
    """Frees what the last batches of closed iterators hold: at exit it would be too late, and
    Python would warn of a leak.
    """
    gc.collect()  # Grain's iterators hold each other, and with them their batches
    pool = SharedMemoryArray._del_thread_pool
    if pool is not None:
        pool.apply(int)  # its one thread frees in order: what was asked before is done now


@contextlib.contextmanager
def explaining_workers() -> Iterator[None]:
    """Inside, what Grain says about a worker that has ended becomes a WorkerError that says why."""
    try:
        yield
    except RuntimeError as error:
        _, ended, rest = str(error).partition("terminated unexpectedly with exit code ")
        if not ended:
            raise
        status = int(rest.split(".")[0])
        kind = UnguardedScriptError if status == _UNGUARDED else WorkerError
        reason = _REASONS.get(status, "for the reason above")
        raise kind(
            f"a worker that makes batches has ended with exit code {status}: {reason}"
        ) from error
