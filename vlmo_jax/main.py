"""Trains or evaluates a recipe.

    python -m vlmo_jax.main --config=configs/stage3.py [--workdir=DIR] [--config.FIELD=VALUE ...]

--config is a file or the name of one of the project's recipes, with its argument after a colon:
configs/stage3.py:base,384 or stage3:base,384.
"""

from vlmo_jax.commands.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before the imports that take seconds

import pathlib
import signal
import sys

import jax
from absl import app, flags
from ml_collections import config_flags

from vlmo_jax.commands.command_line import CONFIG, parse_flags
from vlmo_jax.commands.console import log_to_console
from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.limits import raise_open_files
from vlmo_jax.commands.paths import user_path
from vlmo_jax.commands.signals import ending_at_once
from vlmo_jax.parallel.compilation_cache import keep_programs
from vlmo_jax.parallel.distributed import leaving_alone, start_distributed
from vlmo_jax.reports.metrics import announce
from vlmo_jax.training.evaluate import evaluate
from vlmo_jax.training.loop import train

WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; default: runs/<recipe>")

# Exit status of a run that SIGTERM or Ctrl-C has stopped before its end: Kubernetes and others
# start it again only if it is not 0.
STOPPED = 128 + signal.SIGTERM


def default_workdir(recipe: str) -> pathlib.Path:
    """The work folder of a recipe that is given none.

    Args:
        recipe: of --config, such as "configs/stage3.py:base,384" or "stage3:base,384".

    Returns:
        runs/<recipe>: runs/stage3_base_384.
    """
    file, _, argument = recipe.partition(":")
    name = "_".join([pathlib.Path(file).stem, *filter(None, argument.replace(",", "_").split("_"))])
    return pathlib.Path("runs") / name


def say_cache(folder: str | None) -> None:
    """Says where compiled programs are kept, if they are."""
    if folder is not None and jax.process_index() == 0:
        announce(
            f"Compiled programs are kept in {folder} for the next start; to do without, set"
            " config.compilation_cache=False"
        )


@told_in_one_line()
def main(argv: list[str]) -> None:
    """Trains or evaluates the recipe of the command line.

    Args:
        argv: what is left of the command line without flags: the command alone.
    """
    if len(argv) > 1:
        raise app.UsageError(
            f"unknown arguments {argv[1:]}; settings are given as --config.FIELD=VALUE"
        )
    log_to_console()
    raise_open_files()
    workdir = user_path(
        WORKDIR.value or default_workdir(config_flags.get_config_filename(FLAGS["config"]))
    )
    with ending_at_once(), leaving_alone():
        start_distributed()
        if CONFIG.value.get("compilation_cache", True):
            say_cache(keep_programs())
        finished = True
        if CONFIG.value.mode == "eval":
            evaluate(CONFIG.value, workdir)
        else:
            finished = train(CONFIG.value, workdir)
    if not finished:
        sys.exit(STOPPED)


FLAGS = flags.FLAGS

if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse_flags)
