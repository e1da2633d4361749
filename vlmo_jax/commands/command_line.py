"""The flag that every command about a recipe has: --config=FILE[:ARGUMENT], and
--config.FIELD=VALUE for its fields.
"""

import sys

from absl import app, flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Recipe, such as configs/stage3.py:base", lock_config=True
)


def parse_flags(argv):
    """Parses the command line; a recipe or a field that is not there is one line instead of a
    traceback.
    """
    try:
        rest = app.parse_flags_with_usage(argv)
        if CONFIG.value is not None:
            CONFIG.value.mode  # raises here if the recipe could not be loaded
        return rest
    except (AttributeError, OSError) as error:
        settings = " ".join(argument for argument in argv[1:] if argument.startswith("--config"))
        sys.exit(f"error: {settings}: {_reason(error)}")


def read_config(recipe, settings):
    """The config that a command line would give.

    Args:
        recipe: of --config, such as "configs/stage3.py:base".
        settings: mapping field -> value, such as {"optimizer.learning_rate": 1e-3}.

    Returns:
        ConfigDict.

    Raises:
        ValueError: there is no such recipe or field, or a value of another type.
    """
    values = flags.FlagValues()
    line = [
        "",
        f"--config={recipe}",
        *(f"--config.{field}={value}" for field, value in settings.items()),
    ]
    flag = config_flags.DEFINE_config_file(
        "config", None, "", lock_config=True, flag_values=values, sys_argv=line
    )
    try:
        values(line)
        flag.value.mode  # raises here if the recipe could not be loaded
    except (AttributeError, OSError, flags.Error) as error:
        raise ValueError(f"{' '.join(line[1:])}: {_reason(error)}") from error
    return flag.value


def _reason(error):
    """An error of a recipe or its fields in one line; of a recipe that raises, its own message."""
    reason = str(error.args[0].args[0] if isinstance(error.args[0], Exception) else error).strip()
    if "Traceback" in reason:
        reason = reason.splitlines()[-1].partition(": ")[2]
    return " ".join(reason.split())
