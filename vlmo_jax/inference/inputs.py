"""What people hand in, as rows of a batch: images in any form, and texts."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image

from vlmo_jax.commands.endings import SHORTAGES, UserError
from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.images import BrokenImageError, decode_image, upright_rgb
from vlmo_jax.datasets.record_sources import BrokenRecordError
from vlmo_jax.datasets.tables import printable
from vlmo_jax.input.plain_images import ImageForm
from vlmo_jax.input.schema import empty_batch
from vlmo_jax.input.text.plain_texts import text_columns, write_text
from vlmo_jax.input.text.tokenizer import Tokenizer

# A path, an open file, the bytes of a file, a picture of Pillow, or an array: uint8 [H, W, 3],
# [H, W, 4] with transparency, or grey [H, W] and [H, W, 1].
ImageInput: TypeAlias = str | os.PathLike | IO[bytes] | bytes | Image.Image | np.ndarray

_ADDRESS = re.compile(r"[a-zA-Z][\w+.-]+://")


class BrokenInputError(UserError, ValueError):
    """An image or a text that cannot be used.

    Attributes:
        position: of it among the inputs, from 0.
        name: what it is called: its path, or what it is.
        reason: why it cannot be used.
    """

    def __init__(self, position: int, name: str, reason: object) -> None:
        super().__init__(
            f"input {position} ({name}) cannot be used: {reason}; leave it out, or leave out all"
            " such with on_error='skip'"
        )
        self.position, self.name, self.reason = position, name, str(reason)


class _UnusableError(Exception):
    """Name and reason of an input whose position is not known here."""

    def __init__(self, name: str, reason: object) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason


class Row(NamedTuple):
    """What one input becomes.

    Attributes:
        arrays: of a row of a batch, by name.
        cut: whether its text was too long.
    """

    arrays: Mapping[str, np.ndarray]
    cut: bool = False


RowMaker = Callable[[Any], Row]


def make_row(make: RowMaker, position: int, item: Any) -> Row | BrokenInputError:
    """The row of an input, or what is wrong with it."""
    try:
        return make(item)
    except _UnusableError as error:
        broken = BrokenInputError(position, error.name, error.reason)
        broken.__cause__ = error.__cause__
        return broken


def image_row(image: ImageInput, form: ImageForm) -> Row:
    """Decodes an image as evaluation does: upright, over white, resized.

    Args:
        image: in any form.
        form: what it becomes.

    Returns:
        The columns of the form, such as image uint8 [S, S, 3].
    """
    try:
        picture = _open_image(image)
    except (DataError, BrokenRecordError) as error:
        raise _UnusableError(name_of(image), error) from error
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        raise _UnusableError(name_of(image), error.strerror or error) from error
    batch = empty_batch(form.columns, 1)
    form.write(batch, 0, picture)
    return Row({name: values[0] for name, values in batch.items()})


def text_row(text: str, tokenizer: Tokenizer, length: int) -> Row:
    """Puts a text into tokens as evaluation does.

    Args:
        text: any.
        tokenizer: of the model.
        length: T; what a longer text has beyond it is cut off.

    Returns:
        token_ids int32 [T], token_mask bool [T].
    """
    if not isinstance(text, str):
        raise _UnusableError(name_of(text), "it is no text; give a str")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        why = "it has halves of characters, as of what was no UTF-8; mend or replace them"
        raise _UnusableError(printable(text), why) from error
    batch = empty_batch(text_columns(length), 1)
    whole = write_text(batch, 0, text, tokenizer, eager=False)
    return Row({name: values[0] for name, values in batch.items()}, cut=not whole)


def name_of(item: Any) -> str:
    """What an input is called in messages."""
    if isinstance(item, str | os.PathLike):
        return str(item)
    if isinstance(item, np.ndarray):
        return f"an array {list(item.shape)} of {item.dtype}"
    name = getattr(item, "filename", "") or getattr(item, "name", "")
    return str(name) if isinstance(name, str | os.PathLike) and name else f"a {_kind(item)}"


def _kind(item: Any) -> str:
    return f"{type(item).__module__}.{type(item).__name__}".removeprefix("builtins.")


def _open_image(image: Any) -> Image.Image:
    if isinstance(image, str | os.PathLike):
        if _ADDRESS.match(str(image)):
            raise BrokenImageError("nothing is downloaded here; fetch it first, and give its path")
        return decode_image(_read(Path(user_path(image)).read_bytes))
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image))
    if isinstance(image, Image.Image):
        if not image.width * image.height:
            raise BrokenImageError(f"it has {image.width} x {image.height} pixels")
        return upright_rgb(image)
    if hasattr(image, "read"):
        return decode_image(_read(image.read))
    if hasattr(image, "__array__"):
        return _of_array(np.asarray(image))
    raise BrokenImageError(
        f"it is a {_kind(image)}; give a path, an open file, bytes, a picture of Pillow or an array"
    )


def _read(read: Callable[[], Any]) -> bytes:
    try:
        data = read()
    except UnicodeDecodeError:
        data = ""
    except ValueError as error:  # a file that is closed, a path with a NUL
        if isinstance(error, UserError):
            raise
        raise BrokenImageError(error) from error
    if not isinstance(data, bytes):
        raise BrokenImageError("the file is open as text; open it with mode 'rb'")
    return data


def _of_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8:
        raise BrokenImageError(
            f"its values are {array.dtype}; give uint8 from 0 to 255, of fractions"
            " (255 * array).round().astype('uint8')"
        )
    if not (array.ndim == 2 or array.ndim == 3 and array.shape[2] in (3, 4)) or not array.size:
        raise BrokenImageError(
            f"its shape is {list(array.shape)}; give [height, width, 3], [height, width, 4] with"
            " transparency or [height, width] of greys"
        )
    return upright_rgb(Image.fromarray(np.ascontiguousarray(array)))
