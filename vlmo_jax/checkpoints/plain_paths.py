"""Names of folders that Orbax takes for what they are.

Orbax looks for files by patterns that hold the whole path of a folder, so `[`, `]`, `*` and `?` in
it match other names than their own: parts of a checkpoint are not found, and those of another
folder may be.
"""

import functools
import glob
import pathlib
import tempfile

import jax

from vlmo_jax.commands.endings import UserError


class OddPathError(UserError, ValueError):
    """A folder whose name cannot be used here."""


def plain_path(folder: pathlib.Path) -> pathlib.Path:
    """A path of a folder that is no pattern: its own, or else a link that lasts as long as this
    process.

    Args:
        folder: absolute; made if it is not there.

    Raises:
        OddPathError: the path is a pattern and several processes share the folder, which they must
            know by one name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if glob.escape(str(folder)) == str(folder) and "]" not in str(folder):
        return folder
    if jax.process_count() > 1:
        raise OddPathError(
            f"{folder} has one of the letters [ ] * ? in it, which a job of several processes"
            " cannot use for checkpoints; give a folder without them"
        )
    return _links() / _link(folder)


@functools.lru_cache
def _link(folder: pathlib.Path) -> str:
    name = f"{len(list(_links().iterdir()))}"
    (_links() / name).symlink_to(folder)
    return name


def _links() -> pathlib.Path:
    return pathlib.Path(_temporary_folder().name)


@functools.lru_cache
def _temporary_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="vlmo_jax_checkpoints_")
