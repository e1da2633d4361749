"""One input or several: what is gone through, and what goes with what."""

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Any

from PIL import Image

from vlmo_jax.commands.endings import UserError

_LISTS = "OUST"  # kinds of arrays that hold texts or other objects, and no pixels
_GONE = object()  # stands where one side has ended


class UnevenError(UserError, ValueError):
    """More images than texts, or the other way round."""


def is_single(inputs: Any) -> bool:
    """Whether it is one image or text in place of several."""
    if hasattr(inputs, "__array__") and hasattr(inputs, "ndim"):
        return inputs.ndim < 4 and getattr(inputs.dtype, "kind", "u") not in _LISTS
    one = isinstance(inputs, str | bytes | bytearray | os.PathLike | Image.Image)
    return one or hasattr(inputs, "read")


def as_items(inputs: Any) -> Iterable[Any]:
    """Inputs to go through, also of a single one."""
    return [inputs] if is_single(inputs) else inputs


def how_many(*sides: Any) -> int | None:
    """How many inputs there are on sides that go together; None where none of them knows."""
    counts = [len(side) for side in sides if not is_single(side) and hasattr(side, "__len__")]
    return max(counts, default=1 if all(map(is_single, sides)) else None)


def pair_up(images: Any, texts: Any) -> Iterator[tuple[Any, Any]]:
    """Pairs of an image and a text; a single one goes with all of the others.

    Raises:
        UnevenError: there are more of the one than of the other.
    """
    if is_single(images) or is_single(texts):
        if is_single(images) and is_single(texts):
            return iter([(images, texts)])
        sides = (itertools.repeat(s) if is_single(s) else s for s in (images, texts))
        return zip(*sides, strict=False)
    counts = [len(side) for side in (images, texts) if hasattr(side, "__len__")]
    if len(set(counts)) > 1:
        raise UnevenError(f"{counts[0]} images and {counts[1]} texts; give one text an image")
    return _strictly(images, texts)


def _strictly(images: Iterable[Any], texts: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    for number, pair in enumerate(itertools.zip_longest(images, texts, fillvalue=_GONE)):
        ended = [what for what, one in zip(("images", "texts"), pair, strict=True) if one is _GONE]
        if ended:
            raise UnevenError(f"the {ended[0]} end after {number}; give one text an image")
        yield pair
