"""The flag that every command about a recipe has: --config=RECIPE[:ARGUMENT], and
--config.FIELD=VALUE for its fields.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser
from ml_collections.config_flags.tuple_parser import TupleParser

from vlmo_jax.commands.absl_flags import parse_or_help
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.commands.recipe_files import find_recipe, load_recipe

# What parsing a command line may raise beside absl's own errors: a field that is not there, one
# inside a number, a value of another type.
_NO_SUCH_FIELD = (AttributeError, LookupError, TypeError, ValueError, OSError, SyntaxError)


class RecipeParser(ConfigFileFlagParser):
    """Loads recipes by file or by name, from whatever folder."""

    def parse(self, path: str) -> ConfigDict:
        """The config of a recipe.

        Args:
            path: file or name, and after a colon its argument: "configs/stage3.py", "stage3:base".

        Returns:
            ConfigDict, locked.

        Raises:
            FileNotFoundError: there is no such recipe.
            ConfigError: it cannot be loaded.
        """
        recipe, colon, argument = path.partition(":")
        return load_recipe(find_recipe(recipe), argument if colon else None).lock()


class FieldParser(flags.ArgumentParser):
    """Reads a value of the command line.

    Args:
        read: function of the text, which may raise ValueError.
        what: what the text must be, for messages.
    """

    def __init__(self, read: Callable[[str], Any], what: str) -> None:
        self._read, self._what = read, what

    def parse(self, argument: Any) -> Any:
        """The value; what is no text comes from the recipe and stays as it is.

        Raises:
            ValueError: the text is no such value.
        """
        if not isinstance(argument, str):
            return argument
        try:
            return self._read(argument)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise ValueError(f"must be {self._what}") from error

    def flag_type(self) -> str:
        """For --help."""
        return self._what


def _read_tuple(text: str) -> tuple:
    return TupleParser().parse(text) if text.strip() else ()


def _register_parsers() -> None:
    """Values of fields are read by ours: with the messages of a FieldParser, and a tuple that is
    given twice is the last one, as every other field; ml_collections would join the two.
    """
    example = "values in brackets with a comma behind each, such as \"('a', 'b',)\", or () for none"
    for kind, parser in (
        (int, FieldParser(flags.IntegerParser().parse, "a whole number")),
        (float, FieldParser(float, "a number")),
        (bool, FieldParser(flags.BooleanParser().parse, "true or false")),
        (tuple, FieldParser(_read_tuple, example)),
    ):
        config_flags.register_flag_parser_for_type(kind, parser)


def _define_config(flag_values: flags.FlagValues, argv: Sequence[str] | None) -> flags.FlagHolder:
    _register_parsers()
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
    """Parses the command line; a recipe, a field or a value that cannot be is one line instead of a
    traceback.

    Args:
        argv: the command line.

    Returns:
        What is left of it without flags.
    """
    try:
        return parse_or_help(argv)
    except (flags.Error, *_NO_SUCH_FIELD) as error:
        sys.exit(f"error: {_reason(argv, error)}")


def read_config(recipe: str, settings: Mapping[str, Any]) -> ConfigDict:
    """The config that a command line would give.

    Args:
        recipe: of --config, such as "configs/stage3.py:base" or "stage3:base".
        settings: mapping field -> value, such as {"optimizer.learning_rate": 1e-3}.

    Returns:
        ConfigDict.

    Raises:
        ConfigError: there is no such recipe or field, or a value of another type.
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
    except (flags.Error, *_NO_SUCH_FIELD) as error:
        raise ConfigError(_reason(line, error)) from error
    return flag.value


def _reason(argv: Sequence[str], error: Exception) -> str:
    """What is wrong with a command line, in one line: the setting, where it is known, or all of
    them.
    """
    cause = error.args[0] if error.args else error
    if isinstance(cause, Exception) and cause.args:  # ConfigDict's way of saying what is not there
        cause = cause.args[0]
    reason = " ".join(str(cause).split())
    if reason.startswith("flag --"):  # flag --config.steps=1.5: must be ...
        return reason.removeprefix("flag ")
    settings = [argument for argument in argv[1:] if argument.startswith("--config")]
    return ": ".join(filter(None, (" ".join(" ".join(settings).split()), reason)))
