"""Runs a command of the project with several argument lists, each in a fork of one process: its
imports take longest.
"""

import json
import pathlib
import subprocess
import sys
from typing import NamedTuple

from tests.paths import ROOT

DRIVER = """
import importlib, json, os, sys
from absl import app
from vlmo_jax.commands.command_line import parse_flags

module, cases = importlib.import_module(sys.argv[1]), json.loads(sys.argv[2])
for arguments, log in cases:
    if os.fork() == 0:
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.argv = [module.__name__, *arguments]
        app.run(module.main, flags_parser=parse_flags)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


class Ended(NamedTuple):
    """Exit status of a command, and all that it has printed."""

    status: int
    log: str


def run_commands(module, argument_lists, directory, **options):
    """Runs `python -m module` with each list of arguments.

    Args:
        module: a command of the project with a function `main` for absl.
        argument_lists: lists of strings.
        directory: for what they print.
        options: of subprocess.run, such as `env`.

    Returns:
        An Ended each.
    """
    cases = [
        (list(arguments), str(directory / f"{number}.log"))
        for number, arguments in enumerate(argument_lists)
    ]
    command = [sys.executable, "-c", DRIVER, module, json.dumps(cases)]
    driver = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)
    assert driver.returncode == 0, driver.stderr
    statuses = map(int, driver.stdout.split())
    return [
        Ended(status, pathlib.Path(log).read_text())
        for status, (_, log) in zip(statuses, cases, strict=True)
    ]
