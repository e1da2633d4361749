"""The flag that every command about a recipe has: --config=FILE[:ARGUMENT], and --config.FIELD=VALUE for its fields."""

import sys

from absl import app
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe, such as configs/stage3.py:base", lock_config=True)


def parse_flags(argv):
    """Parses the command line; a recipe or a field that is not there is one line instead of a traceback."""
    try:
        rest = app.parse_flags_with_usage(argv)
        if CONFIG.value is not None:
            CONFIG.value.mode  # raises here if the recipe could not be loaded
        return rest
    except (AttributeError, OSError) as error:
        reason = error.args[0].args[0] if isinstance(error.args[0], Exception) else error
        settings = " ".join(argument for argument in argv[1:] if argument.startswith("--config"))
        sys.exit(f"error: {settings}: {' '.join(str(reason).split())}")
