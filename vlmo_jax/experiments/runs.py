"""Runs recipes as processes of their own, one after another, as `python -m vlmo_jax.main` does."""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.paths import user_path
from vlmo_jax.main import STOPPED


def add_arguments(parser: argparse.ArgumentParser, *, init_from: str, workdir: str) -> None:
    """Gives a command that compares runs the arguments that all such have.

    Args:
        parser: of the command.
        init_from: what a run starts from, for the help.
        workdir: where everything goes by default.
    """
    parser.add_argument("--init_from", type=user_path, required=True, help=init_from)
    add_workdir_and_settings(parser, workdir)


def add_workdir_and_settings(parser: argparse.ArgumentParser, workdir: str) -> None:
    """Gives a command that makes runs --workdir and --set.

    Args:
        parser: of the command.
        workdir: where everything goes by default.
    """
    parser.add_argument(
        "--workdir",
        type=user_path,
        default=pathlib.Path(workdir),
        help="where everything goes (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a setting of every run's config",
    )


def read_settings(settings: Sequence[str]) -> dict[str, str]:
    """Settings by field.

    Args:
        settings: each "FIELD=VALUE".

    Returns:
        Field -> value.

    Raises:
        ValueError: a setting of another form.
    """
    pairs = [setting.partition("=") for setting in settings]
    for field, equals, value in pairs:
        if not (field and equals):
            raise ValueError(f"--set={field}{equals}{value} is not FIELD=VALUE")
    return {field: value for field, _, value in pairs}


class Usage(NamedTuple):
    """What a run took: seconds on the clock, and bytes of memory at most."""

    seconds: float
    peak_bytes: int


class RunStoppedError(UserError):
    """A run ended before its end; `status` is its exit status, `usage` what it took."""

    def __init__(self, message: str, status: int, usage: Usage) -> None:
        super().__init__(message)
        self.status, self.usage = status, usage


def run_recipe(config: str, workdir: str | os.PathLike, settings: Mapping[str, Any]) -> Usage:
    """Runs a recipe to its end, or from where its work folder stands; its output goes to this
    console.

    Args:
        config: recipe with its argument, such as "configs/stage3.py:base" or "stage3:base".
        workdir: its work folder.
        settings: config field -> value, such as {"optimizer.learning_rate": 1e-3}.

    Returns:
        Usage.

    Raises:
        RunStoppedError: the run failed, or SIGTERM or Ctrl-C stopped it.
    """
    command = [
        *(sys.executable, "-m", "vlmo_jax.main", f"--config={config}", f"--workdir={workdir}"),
        *(f"--config.{field}={value}" for field, value in settings.items()),
    ]
    start = time.monotonic()
    process = subprocess.Popen(command)
    status, peak = _wait(process)
    usage = Usage(time.monotonic() - start, peak)
    if not status:
        return usage
    if status < 0:
        how, status = f"was killed by {signal.Signals(-status).name}", 128 - status  # as shells do
    elif status == STOPPED:
        how = "was stopped"
    else:
        how = f"failed with status {status}, for the reason above"
    raise RunStoppedError(
        f"{config} {how}; the same command goes on from where it stands", status, usage
    )


def _wait(process: subprocess.Popen) -> tuple[int, int]:
    """Waits for a process, which gets SIGTERM and SIGHUP as this one does.

    Returns:
        Its exit status, or minus the number of the signal that killed it, and the bytes of memory
        that it took at most.
    """
    # Ctrl-C reaches the run by itself; it saves and ends, and so do we.
    handlers = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            handlers[number] = signal.signal(
                number, lambda number, frame: process.send_signal(number)
            )
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
