"""The flag that every command about a recipe has: --config=RECIPE[:ARGUMENT], and
--config.FIELD=VALUE for its fields.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from vlmo_jax.commands.recipe_files import configs_of, find_recipe


class RecipeParser(ConfigFileFlagParser):
    """Loads recipes by file or by name, from whatever folder."""

    def parse(self, path: str) -> ConfigDict:
        """The config of a recipe.

        Args:
            path: file or name, and after a colon its argument: "configs/stage3.py", "stage3:base".

        Returns:
            ConfigDict.

        Raises:
            FileNotFoundError: there is no such recipe.
            ValueError, TypeError: of the recipe, with the traceback in the message.
        """
        recipe, colon, argument = path.partition(":")
        file = find_recipe(recipe)
        with configs_of(file):
            return super().parse(f"{file}{colon}{argument}")


def _define_config(flag_values: flags.FlagValues, argv: Sequence[str] | None) -> flags.FlagHolder:
    holder = config_flags.DEFINE_config_file(
        "config",
        None,
        "Recipe, such as configs/stage3.py:base or stage3:base",
        lock_config=True,
        flag_values=flag_values,
        sys_argv=argv,
    )
    flag_values["config"].parser = RecipeParser("config", lock_config=True)
    return holder


CONFIG = _define_config(flags.FLAGS, argv=None)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; a recipe or a field that is not there is one line instead of a
    traceback.

    Args:
        argv: the command line.

    Returns:
        What is left of it without flags.
    """
    try:
        rest = app.parse_flags_with_usage(argv)
        if CONFIG.value is not None:
            _ = CONFIG.value.mode  # raises here if the recipe could not be loaded
        return rest
    except (AttributeError, OSError) as error:
        settings = " ".join(argument for argument in argv[1:] if argument.startswith("--config"))
        sys.exit(f"error: {settings}: {_reason(error)}")


def read_config(recipe: str, settings: Mapping[str, Any]) -> ConfigDict:
    """The config that a command line would give.

    Args:
        recipe: of --config, such as "configs/stage3.py:base" or "stage3:base".
        settings: mapping field -> value, such as {"optimizer.learning_rate": 1e-3}.

    Returns:
        ConfigDict.

    Raises:
        ValueError: there is no such recipe or field, or a value of another type.
    """
    line = [
        "",
        f"--config={recipe}",
        *(f"--config.{field}={value}" for field, value in settings.items()),
    ]
    values = flags.FlagValues()
    flag = _define_config(values, line)
    try:
        values(line)
        _ = flag.value.mode  # raises here if the recipe could not be loaded
    except (AttributeError, OSError, flags.Error) as error:
        raise ValueError(f"{' '.join(line[1:])}: {_reason(error)}") from error
    return flag.value


def _reason(error: Exception) -> str:
    """An error of a recipe or its fields in one line; of a recipe that raises, its own message."""
    reason = str(error.args[0].args[0] if isinstance(error.args[0], Exception) else error).strip()
    if "Traceback" in reason:
        reason = reason.splitlines()[-1].partition(": ")[2]
    return " ".join(reason.split())
