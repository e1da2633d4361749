"""What a start of a run costs beside its steps, and what its steps wait for."""

import contextlib
import os
import pathlib
import time
from collections.abc import Iterator

import jax

from vlmo_jax.commands.peak_memory import peak_bytes
from vlmo_jax.reports.metrics import announce

# Shares of the time that steps wait for data: above the one the input is to blame, below the other
# the step; between them it stays with what was said last.
INPUT_BINDS, STEP_BINDS = 0.2, 0.1

_IMPORTED = time.monotonic()


class Costs:
    """Collects what the next line of metrics says of this start."""

    def __init__(self) -> None:
        self._found: dict[str, float] = {}
        self._stepped = False
        self._said = ""

    def stepped(self) -> None:
        """To be called after each step; the first one counts."""
        if not self._stepped:
            self._found["train/first_step_seconds"] = seconds_running()
        self._stepped = True

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Counts how long the steps wait for a checkpoint."""
        started = time.perf_counter()
        yield
        self._found["train/save_seconds"] = time.perf_counter() - started

    def take(self, data_wait: float) -> dict[str, float]:
        """Returns the metrics since the last line, and says in words what the steps wait for where
        that is news.

        Args:
            data_wait: share of the time since then in which they waited for data.

        Returns:
            `train/host_gib`, the most memory that this process has had; where there was one,
            `train/first_step_seconds` from the start of the process to the end of its first step,
            and `train/save_seconds`, for which the last checkpoint kept the steps waiting.
        """
        binds = which_binds(data_wait, self._said)
        if binds != self._said and jax.process_index() == 0:
            announce(describe_bottleneck(binds, data_wait))
        self._said = binds
        found, self._found = self._found, {}
        return {"train/host_gib": peak_bytes() / 2**30, **found}


def which_binds(data_wait: float, before: str) -> str:
    """Returns "input" or "step", whichever the run would be faster without.

    Args:
        data_wait: share of the time in which steps waited for data.
        before: what it was; "" at first.
    """
    if data_wait > INPUT_BINDS:
        return "input"
    return "step" if data_wait < STEP_BINDS or not before else before


def describe_bottleneck(binds: str, data_wait: float) -> str:
    """A sentence on what makes the run as slow as it is, and what to do."""
    if binds == "step":
        return f"The step is the bottleneck: it waits {data_wait:.0%} of the time for data."
    return (
        f"The input is the bottleneck: steps wait {data_wait:.0%} of the time for data. It is"
        " fastest with as many config.data.num_workers as there are cores,"
        f" {os.cpu_count()} here; config.data.fast_views=True makes it less work, and"
        " `python -m vlmo_jax.bench input` says what its time is spent on"
    )


def seconds_running() -> float:
    """Seconds since this process began; off Linux, since this file was imported."""
    file = pathlib.Path("/proc/self/stat")
    if not file.exists():
        return time.monotonic() - _IMPORTED
    began = int(file.read_text().rpartition(")")[2].split()[19])  # in clock ticks since boot
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")
