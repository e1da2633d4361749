"""Small files that a checkpoint carries in its meta, such as the tokenizer and a list of answers:
so that it says all about its model wherever it is taken.
"""

import base64
from collections.abc import Mapping
from typing import Any

from vlmo_jax.commands.endings import UserError

FILES = "files"  # their key in the meta


class BrokenFileError(UserError, ValueError):
    """A file in a checkpoint that cannot be taken out."""


def pack_files(files: Mapping[str, bytes]) -> dict[str, str]:
    """Files as JSON values: name -> contents in base64."""
    return {name: base64.b64encode(contents).decode() for name, contents in files.items()}


def carried_files(meta: Mapping[str, Any]) -> dict[str, bytes]:
    """The files that a checkpoint carries: name -> contents.

    Args:
        meta: of the checkpoint. Those that were written before it carried files have none.

    Raises:
        BrokenFileError: something else stands there.
    """
    files = {}
    for name, text in meta.get(FILES, {}).items():
        try:
            files[name] = base64.b64decode(text, validate=True)
        except (TypeError, ValueError) as error:
            raise BrokenFileError(f"the checkpoint's file {name!r} is damaged: {error}") from error
    return files
