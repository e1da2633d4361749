"""Refusals of settings: each names the key, the value, what is allowed and the fix.

Keys are spelled out as on the command line, without `config.`: `data.mask_rate`.
"""

import contextlib
import errno
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlmo_jax.commands.endings import UserError


class ConfigError(UserError, ValueError):
    """A config that cannot run; the message names key, value, what is allowed and the fix."""


def require(condition: bool, message: str) -> None:
    """Raises ConfigError with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def one_of(key: str, value: Any, allowed: Sequence) -> None:
    """Raises ConfigError unless the value of config.<key> is one of those allowed."""
    names = ", ".join(map(str, allowed))
    require(value in allowed, f"config.{key}={value!r} is not allowed; use one of {names}")


def positive(key: str, value: float) -> None:
    """Raises ConfigError unless config.<key> is more than 0."""
    require(value > 0, f"config.{key}={value} must be more than 0")


def not_negative(key: str, value: float, meaning: str) -> None:
    """Raises ConfigError unless config.<key> is 0, which means `meaning`, or more."""
    require(value >= 0, f"config.{key}={value} must be 0 ({meaning}) or more")


def multiple(key: str, value: int, divisor: int, what: str) -> None:
    """Raises ConfigError unless config.<key> divides by `divisor`, which is named `what`."""
    near = max(divisor, round(value / divisor) * divisor)
    require(
        value % divisor == 0,
        f"config.{key}={value} does not divide over {what} ({divisor}); use a multiple of {divisor}"
        f" such as {near}",
    )


@contextlib.contextmanager
def naming(config: Mapping[str, Any], *keys: str) -> Iterator[None]:
    """Names the fields of a config that lead to a FileNotFoundError, ValueError or a name that is
    too long inside: a ConfigError.
    """
    try:
        yield
    except ConfigError:
        raise
    except (FileNotFoundError, ValueError, OSError) as error:
        named = isinstance(error, (FileNotFoundError, ValueError))
        if not named and getattr(error, "errno", None) != errno.ENAMETOOLONG:
            raise  # a fault of the machine
        values = ", ".join(f"config.{key}={_field(config, key)!r}" for key in keys)
        raise ConfigError(f"{values}: {error}") from error


@contextlib.contextmanager
def refusing_values() -> Iterator[None]:
    """Inside, a ValueError is about what the command line says: a ConfigError."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _field(config: Mapping[str, Any], key: str) -> Any:
    return functools.reduce(lambda part, name: part[name], key.split("."), config)
