"""Names of parameters that do not depend on how a model stacks its blocks and experts.

The blocks of a MoME Transformer are stored as two stacks, and the experts of a block on one axis.
Here both stacks are one, and experts go by name: `transformer/lower/experts/stacked/up/kernel` [L,
E, D, F] and its `upper` sibling are seen as `transformer/blocks/experts/image/up/kernel` [depth, D,
F] and so on. An expert that the lower blocks lack has one layer a block that has it, the topmost
ones.

A model may have several such towers, wherever they stand: `text_encoder/lower/...` and its sibling
are `text_encoder/blocks/...`, and so is the only stack of a tower that is stored under this name.

Rules of the optimizer and for freezing speak of one model and keep its stacks, of which
`expert_paths` tells the experts apart; warm starts join two models whose stacks may differ, by
`named_parameters`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from vlmo_jax.layers.modality_experts import EXPERTS

Path = tuple[str, ...]

LOWER, UPPER = "lower", "upper"  # the stacks of a tower, in the order of depth
BLOCKS = "blocks"  # its only stack, and the name of both joined
EXPERTS_OF_BLOCK = "experts"
STACKED = "stacked"
EXPERT_AXIS = 1  # of stacked experts, [layers, experts, ...]
TRANSFORMER = ("transformer",)  # the one tower of VLMo and BEiT


class Slot(NamedTuple):
    """A place in a stored array that holds layers `start` to `stop` of a named parameter.

    `expert` is the index on the experts' axis, None where there is none; `stacked` says whether the
    first axis counts layers. A parameter outside the blocks counts as one layer.
    """

    path: Path
    expert: int | None
    start: int
    stop: int
    stacked: bool

    def view(self, array: np.ndarray) -> np.ndarray:
        """The place in the stored array, layers first."""
        if not self.stacked:
            return array[None]
        return array if self.expert is None else array[:, self.expert]


class NamedParameter(NamedTuple):
    """Shape of a named parameter and the slots that hold it, in the order of its layers."""

    shape: tuple[int, ...]
    slots: tuple[Slot, ...]


def flatten(tree: Any) -> dict[Path, Any]:
    """A nested dict of parameters as path -> leaf; paths are tuples of strings."""
    return {
        tuple(map(str, path)): leaf for path, leaf in nnx.traversals.flatten_mapping(tree).items()
    }


def stack_path(path: Path) -> Path | None:
    """The path of the stack of blocks that an array is in by its path, or None."""
    for place, key in enumerate(path[:-1]):
        if key in (LOWER, UPPER, BLOCKS):
            return path[: place + 1]
    return None


def find_stacks(leaves: Mapping[Path, Any]) -> dict[Path, int]:
    """Finds the stacks of blocks of a model, the lower one of a tower before its upper one.

    Args:
        leaves: path -> anything with a shape.

    Returns:
        Path of a stack -> number of its layers, the first axis of all its arrays. Modules that are
        called like a stack and whose arrays differ in that are none: the discrete VAE has some.
    """
    first_axes: dict[Path, set] = {}
    for path, leaf in leaves.items():
        if stack := stack_path(path):
            first_axes.setdefault(stack, set()).add(tuple(leaf.shape[:1]))
    stacks = {
        stack: axes.pop()[0]
        for stack, axes in first_axes.items()
        if len(axes) == 1 and axes != {()}
    }
    return {stack: stacks[stack] for stack in sorted(stacks, key=_is_upper)}


def _is_upper(stack: Path | None) -> bool:
    return stack is not None and stack[-1] == UPPER


def tower_depths(leaves: Mapping[Path, Any]) -> dict[Path, int]:
    """Finds the towers of a model: path of the module that has the stacks -> number of blocks."""
    depths: dict[Path, int] = {}
    for stack, layers in find_stacks(leaves).items():
        tower = stack[:-1]
        depths[tower] = depths.get(tower, 0) + layers
    return depths


def named_parameters(leaves: Mapping[Path, Any]) -> dict[str, NamedParameter]:
    """Names the parameters of a model.

    Args:
        leaves: path -> anything with a shape.
    """
    stacks = find_stacks(leaves)
    slots: dict[str, list[Slot]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(leaves, key=lambda path: _is_upper(stack_path(path))):
        shape = tuple(leaves[path].shape)
        stack = stack_path(path)
        stacked = stack in stacks
        for own_path, expert in expert_paths(path, shape):
            joined = (
                (*stack[:-1], BLOCKS, *own_path[len(stack) :]) if stack and stacked else own_path
            )
            name = "/".join(joined)
            start = slots[name][-1].stop if name in slots else 0
            stop = start + (shape[0] if stacked else 1)
            slots.setdefault(name, []).append(Slot(path, expert, start, stop, stacked))
            of_a_layer = shape[1:] if expert is None else shape[2:]
            shapes[name] = (stop, *of_a_layer) if stacked else shape
    return {name: NamedParameter(shapes[name], tuple(slots[name])) for name in slots}


def expert_paths(path: Path, shape: tuple[int, ...]) -> list[tuple[Path, int | None]]:
    """The experts that an array holds, each with a path of its own.

    Args:
        path: `.../experts/stacked/up/kernel` becomes `.../experts/image/up/kernel` and so on.
        shape: of the array.

    Returns:
        [(path, index on the experts' axis)]; of an array without that axis its own path and None.
    """
    if STACKED not in path:
        return [(path, None)]
    place = path.index(STACKED)
    return [
        ((*path[:place], expert, *path[place + 1 :]), index)
        for expert, index in EXPERTS.items()
        if index < shape[EXPERT_AXIS]
    ]


def towers_of(named: Mapping[str, NamedParameter]) -> frozenset[Path]:
    """The paths of the modules that have the blocks of named parameters."""
    slots = (slot for param in named.values() for slot in param.slots if slot.stacked)
    return frozenset(stack[:-1] for slot in slots if (stack := stack_path(slot.path)))


def group_names(
    names: Iterable[str], towers: Iterable[Path] = (TRANSFORMER,)
) -> dict[str, list[str]]:
    """Gathers names by the module they belong to.

    Args:
        names: some names of a model.
        towers: paths of the modules that have blocks: what stands beside the blocks there is a
            module of its own.

    Returns:
        Module path -> sorted names within it; a parameter of no module stands for itself, with no
        names.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        parts = tuple(name.split("/"))
        length = _module_length(parts, towers)
        inside = groups.setdefault("/".join(parts[:length]), [])
        if parts[length:]:
            inside.append("/".join(parts[length:]))
    return groups


def _module_length(parts: Path, towers: Iterable[Path]) -> int:
    if BLOCKS in parts:
        place = parts.index(BLOCKS)
        return place + (3 if EXPERTS_OF_BLOCK in parts[place + 1 : place + 2] else 2)
    return 1 + max((len(tower) for tower in towers if parts[: len(tower)] == tower), default=0)
