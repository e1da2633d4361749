"""Texts as files hold them: lines, and characters that can be written."""

import pathlib
from collections.abc import Iterator

from vlmo_jax.datasets.contents import describe_contents
from vlmo_jax.datasets.errors import CaptionsError, DataError


def read_lines(path: pathlib.Path) -> Iterator[str]:
    """Yields the lines of a file without their ends. Only a line feed ends a line, maybe with a
    carriage return before it: other marks that Python takes for ends stand inside captions.

    Args:
        path: of the file, UTF-8.

    Raises:
        DataError: it is not UTF-8.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                marked = line.startswith((b"\xff\xfe", b"\xfe\xff"))
                what = "" if marked or number > 1 else describe_contents(line[:4096])
                binary = f"is {what}" if what else f"line {number} is not UTF-8: {error}"
                raise DataError(f"{path} {binary}; save it as UTF-8") from error
            yield text.removeprefix("\ufeff" if number == 1 else "").rstrip("\r\n")


def whole(text: str, where: str) -> str:
    """The text, if all of it can be written.

    Args:
        text: as it was read.
        where: it stands, for the message.

    Raises:
        CaptionsError: it holds half a character.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CaptionsError(
            f"{where} holds half a character ({text[error.start]!a}); write it whole"
        ) from error
    return text
