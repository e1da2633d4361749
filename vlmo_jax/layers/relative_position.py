"""Relative position bias of VLMo: one table for image, text and the ways between them.

Source: the official index buffers. With w patches a side, n = (2w-1)^2 + 3 and L the longest text
that the table is made for, its n + 2 + 2L rows are

  0 .. n-4        patch offsets, query minus key, row-major
  n-3, n-2, n-1   [class] -> patch, patch -> [class], [class] -> itself
  n, n+1          text -> image, image -> text
  n+2 .. n+2L-2   token offsets, key minus query, -(L-2) .. L-2
  the last three  [CLS] -> token, token -> [CLS], [CLS] -> itself

Tables are stored a layer at a time, [layers, rows, H].
"""

import functools

import jax
import numpy as np


def num_image_rows(grid: int) -> int:
    """Rows of a table for `grid` x `grid` patches alone: BEiT's, and the first rows of VLMo's."""
    return (2 * grid - 1) ** 2 + 3


def num_rows(grid: int, text_positions: int) -> int:
    """Rows of the table for `grid` x `grid` patches and texts of up to `text_positions` tokens."""
    return num_image_rows(grid) + 2 + 2 * text_positions


def _with_class_token(offsets, first_class_row):
    """Adds row and column 0 for the class token to an index of offsets [n, n]."""
    index = np.pad(offsets, ((1, 0), (1, 0)))
    index[0, :] = first_class_row
    index[:, 0] = first_class_row + 1
    index[0, 0] = first_class_row + 2
    return index


@functools.lru_cache
def image_index(grid: int) -> np.ndarray:
    """Row of the table for every (query, key) of [class; patches]: int32 [P, P], P = grid^2 + 1."""
    side = 2 * grid - 1
    rows, columns = np.divmod(np.arange(grid * grid), grid)
    offsets = (rows[:, None] - rows + grid - 1) * side + columns[:, None] - columns + grid - 1
    return _with_class_token(offsets, side * side).astype(np.int32)


@functools.lru_cache
def text_index(grid: int, text_length: int, text_positions: int) -> np.ndarray:
    """Row of the table for every (query, key) of a text: int32 [T, T].

    Raises:
        ValueError: the text is longer than the table was made for.
    """
    if text_length > text_positions:
        raise ValueError(
            f"text_length={text_length} is more than the {text_positions} text positions of the"
            " table"
        )
    tokens = np.arange(text_length - 1)
    offsets = tokens - tokens[:, None] + text_positions - 2 + (2 * grid - 1) ** 2 + 5
    return _with_class_token(offsets, num_rows(grid, text_positions) - 3).astype(np.int32)


@functools.lru_cache
def joint_index(grid: int, text_length: int, text_positions: int) -> np.ndarray:
    """Row of the table for every (query, key) of [text; image]: int32 [N, N], N = T + P."""
    text, image = text_index(grid, text_length, text_positions), image_index(grid)
    text_to_image = (2 * grid - 1) ** 2 + 3
    return np.block(
        [
            [text, np.full((len(text), len(image)), text_to_image)],
            [np.full((len(image), len(text)), text_to_image + 1), image],
        ]
    ).astype(np.int32)


@functools.lru_cache
def fused_index(grid: int, text_length: int, text_positions: int) -> np.ndarray:
    """As `joint_index`, of [image; text]."""
    index = joint_index(grid, text_length, text_positions)
    return np.roll(index, (-text_length, -text_length), (0, 1))


def position_bias(table: jax.Array, index: np.ndarray) -> jax.Array:
    """Looks up one layer's bias.

    Args:
        table: [rows, H] float32.
        index: int32 [N, N].

    Returns:
        [H, N, N] float32, to be added to the attention logits.
    """
    return table[index].transpose(2, 0, 1)
