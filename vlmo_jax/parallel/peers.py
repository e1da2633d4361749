"""The death of another process of the job, in one line.

When one has died, jax aborts the others from C++, with a hundred lines of a stack that nobody can
read. It lets no Python run before that, not even its own callback for it; so what a process of a
job writes to standard error goes through a small program, this file, that replaces the dump by a
line.
"""

import atexit
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable

DEATH = (
    "error: another process of this job has died, or cannot be reached any more: look at the end of"
    " its log, then start all of them again, and the run goes on from its last checkpoint"
)

# What collectives and the coordination service say when a process is gone.
DEATHS = re.compile(
    r"Gloo|[Cc]onnection (reset|closed|refused)|Socket closed|[Hh]eartbeat|coordination_service"
    r"|CoordinationService|Broken pipe|NCCL"
)

# jax's abort, and what its libraries say around it.
_ABORT = "Terminating process because the JAX distributed service detected fatal errors"
_NOISE = re.compile(
    r"^[WE]\d{4} .*(coordination_service|preemption_sync_manager)"
    r"|^Additional GRPC error information|^:UNKNOWN:|^RPC: /"
    r"|^The tasks have crashed|grpc_status"
)


_passing = contextlib.ExitStack()


def explain_deaths() -> None:
    """Sends standard error through the program of this file, unless it is a terminal."""
    if os.isatty(2):
        return
    reader, writer = os.pipe()
    before = os.dup(2)
    program = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__],
        stdin=reader,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # signals to the job are not for it: it ends with the last writer
    )
    os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)

    def end() -> None:
        os.dup2(before, 2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(timeout=2)

    _passing.callback(end)
    atexit.register(finish_passing)


def finish_passing() -> None:
    """Waits until all that was written to standard error has been passed on."""
    _passing.close()


def pass_on(lines: Iterable[bytes], write: Callable[[bytes], object]) -> None:
    """Passes lines on, and replaces what jax says of the death of a process.

    Args:
        lines: iterable of bytes.
        write: function of bytes.
    """
    told = False
    for line in lines:
        text = line.decode(errors="replace")
        if _ABORT in text:
            if not told:
                write(f"{DEATH}\n".encode())
            return
        told = told or text.startswith("error: ")
        if not _NOISE.search(text):
            write(line)


if __name__ == "__main__":
    with open(0, "rb") as source:
        pass_on(iter(source.readline, b""), lambda data: os.write(2, data))
        while source.read(65536):
            pass
