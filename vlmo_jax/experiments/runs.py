"""Runs recipes as processes of their own, one after another, as `python -m vlmo_jax.main` does."""

import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from vlmo_jax.main import STOPPED


class Usage(NamedTuple):
    """What a run took: seconds on the clock, and bytes of memory at most."""

    seconds: float
    peak_bytes: int


class RunStopped(Exception):
    """A run ended before its end; `status` is its exit status, `usage` what it took."""

    def __init__(self, message, status, usage):
        super().__init__(message)
        self.status, self.usage = status, usage


def run_recipe(config, workdir, settings):
    """Runs a recipe to its end, or from where its work folder stands; its output goes to this
    console.

    Args:
        config: recipe with its argument, such as "configs/stage3.py:base" or "stage3:base".
        workdir: its work folder.
        settings: mapping config field -> value, such as {"optimizer.learning_rate": 1e-3}.

    Returns:
        Usage.

    Raises:
        RunStopped: the run failed, or SIGTERM or Ctrl-C stopped it.
    """
    command = [
        sys.executable,
        "-m",
        "vlmo_jax.main",
        f"--config={config}",
        f"--workdir={workdir}",
    ]
    command += [f"--config.{field}={value}" for field, value in settings.items()]
    start = time.monotonic()
    process = subprocess.Popen(command)
    # Ctrl-C reaches the run by itself; it saves and ends, and so do we.
    handlers = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(
            signal.SIGTERM, lambda number, frame: process.send_signal(number)
        ),
    }
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    usage = Usage(
        time.monotonic() - start, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    )
    if not code:
        return usage
    if code < 0:
        how, code = f"was killed by {signal.Signals(-code).name}", 128 - code  # as shells count
    else:
        how = (
            "was stopped" if code == STOPPED else f"failed with status {code}, for the reason above"
        )
    raise RunStopped(f"{config} {how}; the same command goes on from where it stands", code, usage)
