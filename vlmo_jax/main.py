"""Trains or evaluates a recipe.

python -m vlmo_jax.main --config=configs/stage3.py [--workdir=DIR] [--config.FIELD=VALUE ...]
"""

from vlmo_jax.commands.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before the imports that take seconds

import logging
import pathlib
import signal
import sys

from absl import app, flags

from vlmo_jax.commands.command_line import CONFIG, parse_flags
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.input.attempts import BrokenDataError
from vlmo_jax.parallel.distributed import start_distributed
from vlmo_jax.training.evaluate import evaluate
from vlmo_jax.training.loop import NonFiniteError, train

WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; default: runs/<recipe>")

# Exit status of a run that SIGTERM or Ctrl-C has stopped before its end: Kubernetes and others
# start it again only if it is not 0.
STOPPED = 128 + signal.SIGTERM


def default_workdir(recipe):
    """runs/<recipe>: configs/stage3.py:base,384 becomes runs/stage3_base_384."""
    file, _, argument = recipe.partition(":")
    name = "_".join([pathlib.Path(file).stem, *filter(None, argument.replace(",", "_").split("_"))])
    return pathlib.Path("runs") / name


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(
            f"unknown arguments {argv[1:]}; settings are given as --config.FIELD=VALUE"
        )
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for library in ("absl", "jax"):
        logging.getLogger(library).setLevel(logging.WARNING)
    start_distributed()
    workdir = pathlib.Path(WORKDIR.value or default_workdir(FLAGS["config"].config_filename))
    try:
        if CONFIG.value.mode == "eval":
            evaluate(CONFIG.value, workdir)
        elif not train(CONFIG.value, workdir):
            sys.exit(STOPPED)
    except (ConfigError, FileNotFoundError, NonFiniteError, BrokenDataError) as error:
        sys.exit(f"error: {error}")


FLAGS = flags.FLAGS

if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse_flags)
