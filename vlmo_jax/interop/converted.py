"""A checkpoint of others in our terms, and what all formats share on the way to it and back."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

# Fields of `config.model` that no checkpoint of others tells.
RUNTIME = dict(
    drop_path_rate=0.0,
    init_std=0.02,
    dtype="auto",
    remat="none",
    scan_layers=True,
    attention="auto",
)
CENTRED = dict(mean=[0.5] * 3, std=[0.5] * 3)  # of the official VLMo and BEiT
UNCHANGED = dict(mean=[0.0] * 3, std=[1.0] * 3)  # pixels from 0 to 1, of DALL-E

Tensors = Mapping[str, np.ndarray]


class Converted(NamedTuple):
    """A checkpoint of others in our terms.

    Attributes:
        params: pure nested dict of float32 arrays.
        config: a whole config as a run saves it, plain JSON values.
        preprocessing: image size, resize, mean and std.
        aside: name -> array of tensors that our model has no place for.
        extra: plain values that `write` needs beside the config.
        files: name -> contents of small files that the checkpoint carries.
    """

    params: dict
    config: dict
    preprocessing: dict
    aside: dict
    extra: dict
    files: Mapping[str, bytes] = MappingProxyType({})


def preprocessing(image_size: int, statistics: Mapping[str, list[float]]) -> dict[str, Any]:
    """What a checkpoint says of square images.

    Args:
        image_size: pixels a side.
        statistics: `mean` and `std`.
    """
    return {"image_size": image_size, "resize": "square bicubic", **statistics}


def refuse_hints(name: str, hints: Mapping[str, Any]) -> None:
    """Raises ValueError if there is a hint that a format has no use for.

    Args:
        name: of the format.
        hints: name -> value or None.
    """
    given = [f"--{hint}" for hint, value in hints.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)} is of no use with --from={name}: the shapes tell it")


def extra_of(name: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    """What a conversion kept for the way back.

    Args:
        name: of the format.
        meta: of the checkpoint that it made.

    Raises:
        ValueError: it was made of another format.
    """
    official = meta.get("official", {})
    if official.get("format") != name:
        raise ValueError(
            f"only a checkpoint that was converted with --from={name} goes back with --to={name};"
            " use --to=vlmo for VLMo"
        )
    return official["extra"]
