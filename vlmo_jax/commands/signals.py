"""Signals that act at once, whatever the program is doing.

Python's own handlers wait until the main thread is back from C: compiling takes minutes, and an
exception that is raised in the middle of it ends in a segmentation fault.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

# Ctrl-C, what schedulers send before they kill, and what a terminal sends when it is closed.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def watching(act: Callable[[int], Any]) -> Iterator[None]:
    """Inside, each of STOPPING calls a function, in a thread of its own; what they did before they
    do afterwards. Outside of the main thread nothing changes.

    A signal that is ignored, as SIGHUP under nohup, stays so. May be nested: the innermost acts.

    Args:
        act: function of the number of the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    thread = threading.Thread(target=_listen, args=(reader, act), name="signals", daemon=True)
    thread.start()
    watched = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    before = {number: signal.signal(number, _left_to_the_thread) for number in watched}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd, warn_on_full_buffer=False)
        os.close(writer)
        thread.join()
        os.close(reader)


def _left_to_the_thread(number: int, frame: Any) -> None:
    """A handler in Python is what makes the system's write to the pipe."""


def _listen(reader: int, act: Callable[[int], Any]) -> None:
    while received := os.read(reader, 64):
        for number in received:
            if number in STOPPING:
                act(number)


def ending_at_once() -> contextlib.AbstractContextManager[None]:
    """Inside, a signal ends the program at once with one line and status 128 + its number: for the
    time in which there is nothing to lose.
    """
    return watching(end_at_once)


def end_at_once(number: int, reason: str = "nothing was under way that could be lost") -> None:
    """Ends the program without taking anything apart.

    Args:
        number: of the signal.
        reason: what has become of the work.
    """
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    with contextlib.suppress(OSError):
        os.write(2, f"error: stopped by {name}: {reason}\n".encode())
    os._exit(128 + number)
