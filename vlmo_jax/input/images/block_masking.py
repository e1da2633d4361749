"""Blockwise masking of patches for masked image modelling."""

import math

import numpy as np

from vlmo_jax.commands.config_errors import require
from vlmo_jax.input.schema import UNUSED

_MIN_ASPECT = 0.3  # of a block, height over width; the largest is its inverse
_ATTEMPTS_PER_BLOCK = 10


def check_block_masking(image_size: int, patch_size: int, num_masked: int, min_block: int) -> None:
    """Raises ConfigError unless blocks of patches can be masked in an image.

    Args:
        image_size, patch_size: `config.model.image_size` and `config.model.patch_size`.
        num_masked, min_block: `config.data.num_masked` and `config.data.min_block`.
    """
    grid = image_size // max(patch_size, 1)
    require(
        patch_size >= 1 and image_size % patch_size == 0 and grid >= 2,
        f"config.model.image_size={image_size} must be a multiple, at least the double, of"
        f" patch_size={patch_size}",
    )
    require(
        1 <= num_masked < grid**2,
        f"config.data.num_masked={num_masked} patches must be at least 1 and fewer than all"
        f" {grid**2} of config.model.image_size={image_size} / config.model.patch_size="
        f"{patch_size}",
    )
    require(
        1 <= min_block <= num_masked,
        f"config.data.min_block={min_block} patches must be at least 1 and at most"
        f" num_masked={num_masked}",
    )


def draw_block_mask(
    grid: int, rng: np.random.Generator, *, num_masked: int, min_block: int
) -> np.ndarray:
    """Hides rectangles of patches, which may overlap, until enough patches are hidden.

    A block's area is uniform between `min_block` and what is still missing, the logarithm of its
    aspect ratio is uniform, its place too. One that does not fit, hides nothing new or would hide
    too much is drawn again; ten such draws in a row end it.

    Args:
        grid: patches a side.
        rng: source of randomness.
        num_masked: patches to hide. Never more are hidden, sometimes fewer.
        min_block: smallest area of a block in patches, as long as as many are missing.

    Returns:
        bool [grid, grid], True where a patch is hidden.

    Source: BEiT, algorithm 1, and `MaskingGenerator` of the official code: 75 of 14 x 14 patches,
    blocks of at least 16, which neither are as wide nor as high as the grid.
    """
    mask = np.zeros((grid, grid), np.bool_)
    missing = num_masked
    while missing:
        block = _draw_block(mask, rng, min_block, missing)
        if block is None:
            break
        mask[block] = True
        missing = num_masked - int(mask.sum())
    return mask


def _draw_block(
    mask: np.ndarray, rng: np.random.Generator, min_block: int, missing: int
) -> tuple[slice, slice] | None:
    grid, log_aspect = len(mask), math.log(_MIN_ASPECT)
    for _ in range(_ATTEMPTS_PER_BLOCK):
        area = min_block + (missing - min_block) * rng.random()
        aspect = math.exp(log_aspect * (2 * rng.random() - 1))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height >= grid or width >= grid:
            continue
        top, left = rng.integers(grid - height + 1), rng.integers(grid - width + 1)
        block = slice(top, top + height), slice(left, left + width)
        if 0 < np.count_nonzero(~mask[block]) <= missing:
            return block
    return None


def masked_positions(mask: np.ndarray, size: int) -> np.ndarray:
    """Returns the numbers of the hidden patches, row by row, int32 [size], -1 where unused.

    Args:
        mask: bool, with at most `size` times True.
        size: M.
    """
    positions = np.full(size, UNUSED, np.int32)
    hidden = np.flatnonzero(mask)
    positions[: len(hidden)] = hidden
    return positions
