"""Position tables for another image size or text length, on the host: numpy in, numpy out.

Interpolation between grids of patches is linear and the same along rows and columns, so each kind
is one small matrix [new, old] that all layers, heads and channels share.
"""

import numpy as np

from vlmo_jax.layers.relative_position import num_rows

# PyTorch's bicubic coefficient.
CUBIC = -0.75


def resample_relative_table(
    table: np.ndarray, *, grid: int, new_grid: int, text_positions: int, new_text_positions: int
) -> np.ndarray:
    """Fits the relative position table of VLMo to another grid of patches, another longest text, or
    both.

    Args:
        table: [layers, rows, H], laid out as in `relative_position`.
        grid, new_grid: patches a side.
        text_positions, new_text_positions: longest texts of the two tables.

    Returns:
        [layers, new rows, H] in the type of `table`; equal to it where nothing changes.

    Raises:
        ValueError: the table has other rows than `grid` and `text_positions` say.

    Source: VLMo's `load_pretrained_weight` for a new grid with the old text length. It cannot
    change both, nor the longest text alone.
    """
    table = np.asarray(table)
    expected = num_rows(grid, text_positions)
    if table.shape[1] != expected:
        raise ValueError(
            f"a relative position table of {table.shape[1]} rows is not one of {grid} x {grid}"
            f" patches and texts of {text_positions} tokens, which has {expected}"
        )
    image, between, text = np.split(
        table, [(2 * grid - 1) ** 2 + 3, (2 * grid - 1) ** 2 + 5], axis=1
    )
    image = resample_image_rows(image, grid=grid, new_grid=new_grid)
    return np.concatenate(
        [image, between, resample_text_rows(text, text_positions, new_text_positions)], axis=1
    )


def resample_image_rows(table: np.ndarray, *, grid: int, new_grid: int) -> np.ndarray:
    """Fits the rows of image offsets, BEiT's whole table, to another grid of patches.

    Near offsets lie closer together than far ones: old offset k is placed at 1 + q + ... + q^(k-1),
    with the q that makes the old grid reach as far as the new one. New offsets between get a cubic
    spline's value, new offsets beyond that of the edge.

    Args:
        table: [layers, (2 grid - 1)^2 + 3, H].
        grid, new_grid: patches a side.

    Returns:
        [layers, (2 new_grid - 1)^2 + 3, H] in the type of `table`; the last three rows, the class
        token's, are kept.

    Source: BEiT's and VLMo's loaders (`interp2d` of kind cubic, q by bisection in [1.01, 1.5]). A
    grid of 2 has too few offsets for a cubic and is refused there; here it gets a parabola.
    """
    if grid == new_grid:
        return np.array(table)
    side, new_side = 2 * grid - 1, 2 * new_grid - 1
    positions = _geometric_positions(grid, new_grid)
    offsets = np.clip(np.arange(new_side) - new_grid + 1.0, positions[0], positions[-1])
    from scipy.interpolate import make_interp_spline  # a second to import, and rarely needed

    spline = make_interp_spline(positions, np.eye(side), k=min(3, side - 1))
    patches = table[:, :-3].reshape(len(table), side, side, -1)
    patches = _along_both_sides(spline(offsets), patches).reshape(len(table), new_side**2, -1)
    return np.concatenate([patches.astype(table.dtype), table[:, -3:]], axis=1)


def resample_text_rows(table: np.ndarray, length: int, new_length: int) -> np.ndarray:
    """Fits the rows of token offsets and of [CLS] to another longest text.

    Offsets that both tables have are copied. Offsets of a longer text take the value of the
    farthest old offset in the same direction, as image offsets beyond the old grid do.

    Args:
        table: [layers, 2 length, H]: offsets -(length-2) .. length-2, then three rows of [CLS],
            which are kept.
        length, new_length: tokens of the longest text, at least 2.

    Returns:
        [layers, 2 new_length, H].
    """
    offsets = np.arange(-(new_length - 2), new_length - 1).clip(-(length - 2), length - 2)
    return np.concatenate([table[:, offsets + length - 2], table[:, -3:]], axis=1)


def resample_image_positions(positions: np.ndarray, *, grid: int, new_grid: int) -> np.ndarray:
    """Fits learned image positions to another grid of patches: bicubic, corners not aligned, not
    smoothed.

    Args:
        positions: [1 + grid^2, D], the class token's row first, which is kept.
        grid, new_grid: patches a side.

    Returns:
        [1 + new_grid^2, D] in the type of `positions`.

    Raises:
        ValueError: `positions` has other rows.

    Source: VLMo's `interpolate_pos_embed` (`torch.nn.functional.interpolate`, mode bicubic).
    """
    positions = np.asarray(positions)
    if len(positions) != 1 + grid**2:
        raise ValueError(
            f"{len(positions)} image positions are not those of {grid} x {grid} patches and a class"
            " token"
        )
    if grid == new_grid:
        return positions.copy()
    patches = _along_both_sides(
        _cubic_weights(grid, new_grid), positions[1:].reshape(1, grid, grid, -1)
    )
    return np.concatenate([positions[:1], patches.reshape(new_grid**2, -1).astype(positions.dtype)])


def _geometric_positions(grid, new_grid):
    """Places of the offsets -(grid-1) .. grid-1 on the axis of the new offsets: [2 grid - 1]."""
    left, right = 1.01, 1.5
    while right - left > 1e-6:
        ratio = (left + right) / 2.0
        reach = (1.0 - ratio ** (grid - 1)) / (1.0 - ratio)
        left, right = (left, ratio) if reach > new_grid - 1 else (ratio, right)
    reaches = np.cumsum(ratio ** np.arange(grid - 1))
    return np.concatenate([-reaches[::-1], [0.0], reaches])


def _cubic_weights(size, new_size):
    """Weights [new_size, size] of cubic convolution, samples beyond the border clamped to it."""
    centres = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    first = np.floor(centres).astype(int) - 1
    weights = np.zeros((new_size, size))
    for tap in range(4):
        distance = np.abs(centres - (first + tap))
        near = (CUBIC + 2) * distance**3 - (CUBIC + 3) * distance**2 + 1
        far = CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        np.add.at(
            weights,
            (np.arange(new_size), (first + tap).clip(0, size - 1)),
            np.where(distance <= 1, near, far),
        )
    return weights


def _along_both_sides(weights, values):
    """Applies `weights` [m, n] to both sides of `values` [layers, n, n, D]: [layers, m, m, D]
    float64.
    """
    return np.einsum("ya,xb,labd->lyxd", weights, weights, values, optimize=True)
