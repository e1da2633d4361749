"""Names of parameters that do not depend on how a model stacks its blocks and experts.

The blocks of a MoME Transformer are stored as two stacks, and the experts of a block on one axis.
Here both stacks are one, and experts go by name: `transformer/lower/experts/stacked/up/kernel` [L,
E, D, F] and its `upper` sibling are seen as `transformer/blocks/experts/image/up/kernel` [depth, D,
F] and so on. An expert that the lower blocks lack has one layer a block that has it, the topmost
ones.

Rules of the optimizer and for freezing speak of one model and keep its stacks, of which
`expert_paths` tells the experts apart; warm starts join two models whose stacks may differ, by
`named_parameters`.
"""

from typing import NamedTuple

from flax import nnx

from vlmo_jax.layers.modality_experts import EXPERTS

STACKS = ("lower", "upper")  # in the order of depth
STACKED = "stacked"
EXPERT_AXIS = 1  # of stacked experts, [layers, experts, ...]


class Slot(NamedTuple):
    """A place in a stored array that holds layers `start` to `stop` of a named parameter.

    `expert` is the index on the experts' axis, None where there is none; `stacked` says whether the
    first axis counts layers. A parameter outside the blocks counts as one layer.
    """

    path: tuple
    expert: int | None
    start: int
    stop: int
    stacked: bool

    def view(self, array):
        """The place in the stored array, layers first."""
        if not self.stacked:
            return array[None]
        return array if self.expert is None else array[:, self.expert]


class NamedParameter(NamedTuple):
    """Shape of a named parameter and the slots that hold it, in the order of its layers."""

    shape: tuple
    slots: tuple


def flatten(tree):
    """A nested dict of parameters as path -> leaf; paths are tuples of strings."""
    return {
        tuple(map(str, path)): leaf for path, leaf in nnx.traversals.flatten_mapping(tree).items()
    }


def named_parameters(leaves):
    """Names the parameters of a model.

    Args:
        leaves: mapping path (tuple of strings) -> anything with a shape.

    Returns:
        dict name -> NamedParameter.
    """
    slots, shapes = {}, {}
    for path in sorted(leaves, key=lambda path: path[:2] == ("transformer", "upper")):
        shape = tuple(leaves[path].shape)
        for name, expert in _names(path, shape):
            stacked = name != "/".join(path)
            start = slots[name][-1].stop if name in slots else 0
            stop = start + (shape[0] if stacked else 1)
            slots.setdefault(name, []).append(Slot(path, expert, start, stop, stacked))
            rest = shape[1:] if expert is None else shape[2:]
            shapes[name] = (stop, *rest) if stacked else shape
    return {name: NamedParameter(shapes[name], tuple(slots[name])) for name in slots}


def expert_paths(path, shape):
    """The experts that an array holds, each with a path of its own.

    Args:
        path: tuple of strings; `.../experts/stacked/up/kernel` becomes
            `.../experts/image/up/kernel` and so on.
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


def _names(path, shape):
    in_stack = path[0] == "transformer" and len(path) > 2 and path[1] in STACKS
    paths = expert_paths(path, shape)
    return [
        ("/".join(("transformer", "blocks", *named[2:]) if in_stack else named), index)
        for named, index in paths
    ]


def group_names(names):
    """Gathers names by the module they belong to.

    Returns:
        dict module path -> sorted names within it; a parameter of no module stands for itself, with
        no names.
    """
    groups = {}
    for name in sorted(names):
        parts = name.split("/")
        depth = (
            4
            if parts[2:3] == ["experts"]
            else 3
            if parts[1:2] == ["blocks"]
            else 2
            if parts[0] == "transformer"
            else 1
        )
        groups.setdefault("/".join(parts[:depth]), []).extend(
            ["/".join(parts[depth:])] if parts[depth:] else []
        )
    return groups
