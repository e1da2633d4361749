"""All commands under one name: `vlmo COMMAND ...`, or `python -m vlmo_jax COMMAND ...`."""

import contextlib
import difflib
import importlib.metadata
import io
import runpy
import sys

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.table import COMMANDS, in_short, manual


@told_in_one_line()
def main() -> None:
    """Runs the command that is named first, as `python -m` would; others are not imported."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(manual())
    elif name == "--version":
        print(f"vlmo-jax {importlib.metadata.version('vlmo-jax')}")
    elif name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        sys.exit(f"error: {name!r} is no command; {meant}`vlmo` lists them all")
    elif {"--help", "-h"} & set(rest):
        _show_manual(name, rest)
    else:
        _run(name, rest)


def _run(name: str, arguments: list[str]) -> None:
    sys.argv[1:] = arguments
    runpy.run_module(f"vlmo_jax.{COMMANDS[name].module}", run_name="__main__", alter_sys=True)


def _show_manual(name: str, arguments: list[str]) -> None:
    text, status = io.StringIO(), None
    with contextlib.redirect_stdout(text):
        try:
            _run(name, arguments)
        except SystemExit as end:
            status = end.code
    print(in_short(text.getvalue()), end="")
    sys.exit(status)


if __name__ == "__main__":
    main()
