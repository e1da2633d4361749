"""The parameters that may change shape between two models: position tables, the table of modality
types, and a head that ranks by what one that matches says.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vlmo_jax.layers import relative_position, resample

EVERYWHERE = np.array(True)  # a mask of what is filled
# A parameter that may be added to others, and the row of it that is: the type of images.
ADDED_ROWS = {"modality_type": 1}


class Resize(NamedTuple):
    """How one parameter changes.

    `detail` says it in words. `fresh_part` names the rows that the checkpoint has nothing for, or
    is None. `apply` takes the saved values to new values and to a mask, broadcastable to them, of
    those that are filled.
    """

    detail: str
    fresh_part: str | None
    apply: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def plan_resize(
    name: str,
    shape: tuple[int, ...],
    new_shape: tuple[int, ...],
    *,
    grid: int | None,
    new_grid: int | None,
) -> Resize | None:
    """Finds how a parameter gets from one model's shape to another's.

    Args:
        name: see `param_names`.
        shape, new_shape: in the checkpoint and in the model.
        grid, new_grid: patches a side of both models; None for one without patches.

    Returns:
        A Resize, or None where nothing changes.

    Raises:
        ValueError: there is no way; says why.
    """
    if name in RESIZES and None not in (grid, new_grid):
        return RESIZES[name](shape, new_shape, grid, new_grid)
    if shape != new_shape:
        raise ValueError("nothing can resample it")
    return None


def _text_positions(rows, grid):
    """Longest text of a relative position table, None for a table of images alone."""
    text = rows - relative_position.num_rows(grid, 0)
    if text == -2:
        return None
    if text < 4 or text % 2:
        raise ValueError(
            f"{rows} rows are not those of {grid} x {grid} patches, by config.model.image_size and"
            " patch_size"
        )
    return text // 2


def _relative_table(shape, new_shape, grid, new_grid):
    text, new_text = _text_positions(shape[1], grid), _text_positions(new_shape[1], new_grid)
    if shape[2] != new_shape[2] or shape[0] not in (1, new_shape[0]):
        raise ValueError("layers and heads must stay, or one table become that of all layers")
    changes = [f"{grid} x {grid} to {new_grid} x {new_grid} patches"] if grid != new_grid else []
    changes += (
        [f"texts of {text} to {new_text} tokens"] if text and text != (new_text or text) else []
    )
    changes += [f"one table for {new_shape[0]} layers"] if shape[0] != new_shape[0] else []
    changes += ["image rows alone"] if bool(new_text) != bool(text) else []
    if not changes:
        return None

    def apply(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if text and not new_text:
            values = values[:, : relative_position.num_image_rows(grid)]
            image = resample.resample_image_rows(values, grid=grid, new_grid=new_grid)
            return np.broadcast_to(image, new_shape), EVERYWHERE
        if text:
            table = resample.resample_relative_table(
                values,
                grid=grid,
                new_grid=new_grid,
                text_positions=text,
                new_text_positions=new_text,
            )
            return np.broadcast_to(table, new_shape), EVERYWHERE
        image = resample.resample_image_rows(values, grid=grid, new_grid=new_grid)
        filled = np.arange(new_shape[1]) < image.shape[1]
        table = np.zeros(new_shape, values.dtype)
        table[:, filled] = image
        return table, filled[:, None]

    return Resize(", ".join(changes), "text_rows" if new_text and not text else None, apply)


def _image_positions(shape, new_shape, grid, new_grid):
    for rows, side in ((shape[0], grid), (new_shape[0], new_grid)):
        if rows != 1 + side**2:
            raise ValueError(
                f"{rows} rows are not those of {side} x {side} patches, by config.model.image_size"
                " and patch_size"
            )
    if shape[1] != new_shape[1]:
        raise ValueError("the width must stay")
    if grid == new_grid:
        return None

    def apply(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        table = resample.resample_image_positions(values, grid=grid, new_grid=new_grid)
        return table, EVERYWHERE

    return Resize(f"{grid} x {grid} to {new_grid} x {new_grid} patches", None, apply)


def _text_rows(shape, new_shape, *_):
    if shape[1] != new_shape[1]:
        raise ValueError("the width must stay")
    rows, new_rows = shape[0], new_shape[0]
    if rows == new_rows:
        return None
    kept = min(rows, new_rows)

    def apply(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        table = np.zeros(new_shape, values.dtype)
        table[:kept] = values[:kept]
        return table, (np.arange(new_rows) < kept)[:, None]

    return Resize(
        f"the first {kept} of {max(rows, new_rows)} rows",
        "new_rows" if new_rows > rows else None,
        apply,
    )


def _modality_types(shape, new_shape, *_):
    if shape == new_shape:
        return None
    if (shape[0], new_shape[0]) != (2, 3) or shape[1] != new_shape[1]:
        raise ValueError("two types may become three, no more")
    return Resize(
        "a second image starts as the first", None, lambda values: (values[[0, 1, 1]], EVERYWHERE)
    )


def _of_match(shape, new_shape, *_):
    if shape == new_shape:
        return None
    if (*shape[:-1], 1) != new_shape or shape[-1] != 2:
        raise ValueError("the scores of a head with two classes may become that of the second")
    return Resize(
        "it starts as the second class", None, lambda values: (values[..., 1:], EVERYWHERE)
    )


# Name -> function of (shape, new shape, grid, new grid). A longer text has no learned positions to
# take: its first rows are copied, and the others start fresh if config.init_fresh says so.
RESIZES = {
    "transformer/relative_position_bias": _relative_table,
    "image_embedding/position": _image_positions,
    "text_embedding/position": _text_rows,
    "modality_type": _modality_types,
    "rank_head/kernel": _of_match,
    "rank_head/bias": _of_match,
}
