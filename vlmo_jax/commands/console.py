"""What a command prints on its way."""

import logging
import os
import sys
from collections.abc import Collection
from typing import Any

from vlmo_jax.commands.endings import drop_output

# The least that is heard of libraries. Fonts are looked for once, in the first run of all, and
# nobody needs to know.
LIBRARIES = {
    "absl": logging.WARNING,
    "asyncio": logging.CRITICAL,  # of a failed save, whose error ends the run anyway
    "jax": logging.WARNING,
    "matplotlib": logging.WARNING,
    "matplotlib.font_manager": logging.ERROR,
}


class LastingStream:
    """A text stream that goes on in silence where nobody can read it any more: a closed terminal, a
    pipe whose reader has ended, a log on a full disk.

    Args:
        stream: such as sys.stdout.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, or does not."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            self._lost()
            return len(text)

    def flush(self) -> None:
        """Flushes, or does not."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._lost()

    def _lost(self) -> None:
        drop_output(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _is_news(record: logging.LogRecord) -> bool:
    """Orbax logs an error with its traceback in each thread that meets it, and then raises it."""
    return record.exc_info is None and "_SignalingThread.run() raised" not in str(record.msg)


def _ignore_closed_loops(unraisable: Any) -> None:
    """Coroutines of a failed save complain when they are thrown away."""
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)


def keep_outputs(names: Collection[str] = ("stdout", "stderr")) -> None:
    """Makes sure that standard output and standard error can be written to, to the end: what is
    printed may be lost, the work may not.

    Args:
        names: of those that this holds for.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # closed from the start, so that the next file would take its number
            while (opened := os.open(os.devnull, os.O_RDWR)) < number:
                pass
            stream = os.fdopen(opened, "w")
            setattr(sys, name, stream)
        if name in names and not isinstance(stream, LastingStream):
            setattr(sys, name, LastingStream(stream))


def log_to_console() -> None:
    """Sends what the project logs to standard error, and of libraries what needs attention."""
    keep_outputs()
    _log_to_stderr()


def log_beside_results() -> None:
    """As `log_to_console`, for a command whose work is what it prints: it ends where nobody reads
    that any more, and where it cannot be written, as on a full disk.
    """
    keep_outputs({"stderr"})
    _log_to_stderr()


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for library, level in LIBRARIES.items():
        logging.getLogger(library).setLevel(level)
    logging.getLogger("absl").addFilter(_is_news)
    sys.unraisablehook = _ignore_closed_loops
