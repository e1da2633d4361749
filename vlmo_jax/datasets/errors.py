"""Errors of data that people can mend."""

from vlmo_jax.commands.endings import UserError


class DataError(UserError, ValueError):
    """A file or folder of data holds something else than it must."""


class MissingDataError(UserError, FileNotFoundError):
    """A file or folder of data is not there."""


class PlaceTakenError(UserError, FileExistsError):
    """Something stands, or is being written, where a data set should go."""


class CaptionsError(DataError):
    """A captions file that cannot be read, or not without losing something."""
