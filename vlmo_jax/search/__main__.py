"""Search over one's own pictures.

    python -m vlmo_jax.search index PICTURES INDEX --model=DIR    makes or renews an index
    python -m vlmo_jax.search query INDEX "a red heart"           searches it
    python -m vlmo_jax.search serve INDEX                         shows it in a browser
    python -m vlmo_jax.search demo                                the same at once, with drawings
    python -m vlmo_jax.search check INDEX                         looks whether it is sound
    python -m vlmo_jax.search measure --model=DIR                 how fast it is, for 100,000

Each has its manual, `python -m vlmo_jax.search index --help`, and docs/SEARCH.md is the tour.
"""

import importlib
import sys

from vlmo_jax.commands.console import log_beside_results, log_to_console
from vlmo_jax.commands.endings import told_in_one_line

# Name of a command -> module with its `main`, which is imported when it is asked for.
COMMANDS = {
    "index": "vlmo_jax.search.commands.index",
    "query": "vlmo_jax.search.commands.query",
    "serve": "vlmo_jax.search.commands.serve",
    "demo": "vlmo_jax.search.commands.demo",
    "check": "vlmo_jax.search.commands.check",
    "measure": "vlmo_jax.search.commands.measure",
}
# Of them, those that make or serve something; of the others, what they print is all.
_MAKING = ("index", "serve", "demo")


@told_in_one_line()
def main() -> None:
    """Runs the command that is named first."""
    name, *rest = sys.argv[1:] or ["--help"]
    (log_to_console if name in _MAKING else log_beside_results)()
    if name in ("--help", "-h", "help"):
        print(__doc__.strip())
    elif name in COMMANDS:
        importlib.import_module(COMMANDS[name]).main(rest)
    else:
        sys.exit(f"error: {name!r} is no command; use {', '.join(COMMANDS)}, or --help")


if __name__ == "__main__":
    main()
