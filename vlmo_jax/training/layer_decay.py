"""Layer-wise decay of the learning rate: the lower a layer, the slower it learns."""

import re
from typing import Any

import numpy as np
from flax import nnx
from numpy.typing import DTypeLike

from vlmo_jax.checkpoints.param_names import Path, find_stacks, flatten, stack_path, tower_depths
from vlmo_jax.commands.config_errors import require

# What stands before the first block, by name.
EMBEDDINGS = r"\w+_embedding/.*|modality_type"
# Beside the blocks, with a row a layer, or with one row that all layers share.
TABLE = "relative_position_bias"


def layer_factors(
    params: Any, layer_decay: float, *, dtype: DTypeLike = np.float32
) -> dict[str, Any]:
    """The factor of the learning rate of every parameter: layer_decay ** (depth + 1 - layer).

    Layer 0 are the embeddings, 1 to depth the blocks, depth + 1 what comes behind them: final norm
    and heads, and a position table that all blocks share.

    Args:
        params: pure tree of (abstract) parameters of a model with one tower of blocks.
        layer_decay: more than 0, at most 1.
        dtype: of the factors of arrays that hold layers.

    Returns:
        A tree like `params`: a float, or of arrays that hold layers an array [layers, 1, ...] that
        broadcasts over them.

    Raises:
        ConfigError: another value, or a model without blocks or with several towers of them.

    Source: BEiT's official code, beit/optim_factory.py.
    """
    require(
        0 < layer_decay <= 1,
        f"config.optimizer.layer_decay={layer_decay} must be more than 0 and at most 1 (no decay)",
    )
    leaves = flatten(params)
    towers = tower_depths(leaves)
    require(
        len(towers) == 1,
        f"config.optimizer.layer_decay={layer_decay} needs a model with one tower of blocks; this"
        f" one has {', '.join('/'.join(tower) for tower in towers) or 'none'}; use 1.0, and"
        " config.optimizer.rate_multipliers for rates by name",
    )
    [(tower, depth)] = towers.items()
    first_layers = _first_layers(leaves)
    factors: dict[Path, Any] = {}
    for path, leaf in leaves.items():
        layers = _layers(path, tuple(leaf.shape), tower, depth, first_layers)
        factor = layer_decay ** (depth + 1.0 - layers)
        if isinstance(factor, np.ndarray):
            factor = factor.astype(dtype).reshape(-1, *[1] * (len(leaf.shape) - 1))
        factors[path] = factor
    return nnx.traversals.unflatten_mapping(
        {keys: factors[tuple(map(str, keys))] for keys in nnx.traversals.flatten_mapping(params)}
    )


def _first_layers(leaves: dict[Path, Any]) -> dict[Path, int]:
    """Path of a stack of the one tower -> number of its first layer, from 1."""
    first_layers, number = {}, 1
    for stack, layers in find_stacks(leaves).items():
        first_layers[stack] = number
        number += layers
    return first_layers


def _layers(
    path: Path, shape: tuple[int, ...], tower: Path, depth: int, first_layers: dict[Path, int]
) -> int | np.ndarray:
    """The number of the layer that an array belongs to, or of each layer along its first axis."""
    stack = stack_path(path)
    if stack is not None and stack in first_layers:
        return first_layers[stack] + np.arange(shape[0])
    if path == (*tower, TABLE) and shape[0] == depth > 1:
        return 1 + np.arange(depth)
    return 0 if re.fullmatch(EMBEDDINGS, "/".join(path)) else depth + 1
