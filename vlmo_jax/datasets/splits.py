"""Splits of a data set that is built: their names, and who comes into which."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.captions import CaptionedImage

_LONGEST = 100  # bytes of a name: it is part of the names of files


def assign_splits(
    found: Sequence[CaptionedImage], splits: str | Mapping[str, float] | None, seed: int
) -> dict[str, str]:
    """Returns the split of each image.

    Args:
        found: the images.
        splits: as in `build.build_dataset`.
        seed: of the random draw; the same images in the same order give the same splits.

    Returns:
        {path of the image: split}.
    """
    if isinstance(splits, Mapping):
        order = np.random.default_rng(seed).permutation(len(found))
        ends = np.rint(np.cumsum(list(splits.values())) * len(found)).astype(int)[:-1]
        split_of: dict[str, str] = {}
        for name, members in zip(splits, np.split(order, ends), strict=True):
            split_of |= {found[i].path: name for i in members}
        return split_of
    split_of = {image.path: splits or image.split or "train" for image in found}
    for name in set(split_of.values()):
        check_split_name(name)
    return split_of


def parse_splits(argument: str) -> str | dict[str, float]:
    """Reads "NAME" or "train=0.9,validation=0.1".

    Raises:
        ValueError: a name has other characters than letters, digits and "_", or shares do not sum
            to 1.
    """
    parts = argument.split(",")
    for part in parts:
        check_split_name(part.partition("=")[0])
    if len(parts) == 1 and "=" not in argument:
        return argument
    try:
        shares = {name: float(share) for name, _, share in (part.partition("=") for part in parts)}
    except ValueError as error:
        raise DataError(
            f"--split {argument}: give NAME, or shares such as train=0.9,validation=0.1"
        ) from error
    if (
        abs(sum(shares.values()) - 1) > 1e-6
        or min(shares.values()) <= 0
        or len(shares) < len(parts)
    ):
        raise DataError(
            f"--split {argument}: shares must be above 0, of different splits, and sum to 1"
        )
    return shares


def check_split_name(name: str) -> None:
    """Refuses a name that no split may have.

    Raises:
        DataError: it is "all", too long, or has other characters than letters, digits and "_".
    """
    if name == "all":
        raise DataError("'all' is no name for a split, it means all of them; use another")
    if not re.fullmatch(r"\w+", name):
        shown = repr(name) if len(name) <= 60 else f"{name[:60]!r}..."
        raise DataError(f"{shown} is no name for a split; use letters, digits and _")
    if len(name.encode()) > _LONGEST:
        raise DataError(
            f"{name[:60]!r}... has {len(name)} letters, too many for a split; use at most"
            f" {_LONGEST}"
        )
