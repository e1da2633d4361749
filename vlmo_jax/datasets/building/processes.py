"""Units made on the cores of this machine."""

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool

from vlmo_jax.commands.endings import UserError
from vlmo_jax.datasets.building.units import Unit, UnitResult, Work, build_unit
from vlmo_jax.datasets.readers.protocol import Reader


class WorkerLostError(UserError, RuntimeError):
    """A worker process was killed."""


def build_in_processes(
    reader: Reader, work: Work, units: Sequence[Unit], *, workers: int | None = None
) -> Iterator[UnitResult]:
    """Makes units in processes of this machine.

    Args:
        reader: that has listed its entries.
        work: where everything lies.
        units: the units that are not finished.
        workers: number of processes, None for one a core; with 1 this process does it.

    Yields:
        The results, as units are finished.

    Raises:
        WorkerLostError: a process was killed, mostly for want of memory.
        Exception: the first one of `build_unit`.
    """
    workers = min(workers or os.cpu_count() or 1, len(units))
    if workers <= 1:
        for unit in units:
            yield build_unit(reader, work, unit)
        return
    before = set(multiprocessing.active_children())
    # A process that has threads, as the libraries here start them, must not be forked.
    pool = futures.ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
    )
    try:
        waiting = [pool.submit(_build, work, unit) for unit in units]
        for done in futures.as_completed(waiting):
            yield done.result()
    except BrokenProcessPool as error:
        raise WorkerLostError(
            f"a worker process was killed, mostly because the machine has no memory left; give"
            f" fewer than --workers={workers}"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
            child.join()


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()


@functools.cache
def _reader(work: Work) -> Reader:
    return work.load_reader()


def _build(work: Work, unit: Unit) -> UnitResult:
    return build_unit(_reader(work), work, unit)


def _end_with_parent() -> None:
    """A parent that is killed tells its workers nothing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
