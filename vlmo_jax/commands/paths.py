"""Paths as people write them."""

import os
import pathlib

from vlmo_jax.commands.endings import UserError


class NoHomeError(UserError, ValueError):
    """A path begins with the home folder of somebody who is not known here."""


def user_path(text: str | os.PathLike) -> pathlib.Path:
    """The path that a person means, in every flag and field: `~` is the home folder, also where no
    shell has seen it, as in `--workdir=~/runs`.

    Args:
        text: as it was given.

    Raises:
        NoHomeError: `~name` of an unknown name.
    """
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError as error:
        raise NoHomeError(f"{text}: {error}; write the path in full") from error
