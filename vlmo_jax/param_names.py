"""Names of parameters that do not depend on how a model stacks its blocks and experts.

The blocks of a MoME Transformer are stored as two stacks, and the experts of a block on one axis. Here
both stacks are one, and experts go by name: `transformer/lower/experts/stacked/up/kernel` [L, E, D, F] and
its `upper` sibling are seen as `transformer/blocks/experts/image/up/kernel` [depth, D, F] and so on. An
expert that the lower blocks lack has one layer a block that has it, the topmost ones.
"""

from typing import NamedTuple

from flax import nnx

from vlmo_jax.layers.modality_experts import EXPERTS

STACKS = ("lower", "upper")  # in the order of depth


class Slot(NamedTuple):
    """A place in a stored array that holds layers `start` to `stop` of a named parameter.

    `expert` is the index on the experts' axis, None where there is none; `stacked` says whether the first axis
    counts layers. A parameter outside the blocks counts as one layer.
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
    return {tuple(map(str, path)): leaf for path, leaf in nnx.traversals.flatten_mapping(tree).items()}


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


def _names(path, shape):
    if path[0] != "transformer" or len(path) < 3 or path[1] not in STACKS:
        return [("/".join(path), None)]
    if path[2:4] != ("experts", "stacked"):
        return [("/".join(("transformer", "blocks", *path[2:])), None)]
    prefix, rest = "transformer/blocks/experts", "/".join(path[4:])
    return [(f"{prefix}/{expert}/{rest}", index) for expert, index in EXPERTS.items() if index < shape[1]]


def group_names(names):
    """Gathers names by the module they belong to.

    Returns:
      dict module path -> sorted names within it; a parameter of no module stands for itself, with no names.
    """
    groups = {}
    for name in sorted(names):
        parts = name.split("/")
        depth = 4 if parts[2:3] == ["experts"] else 3 if parts[1:2] == ["blocks"] else 2 if parts[0] == "transformer" else 1
        groups.setdefault("/".join(parts[:depth]), []).extend(["/".join(parts[depth:])] if parts[depth:] else [])
    return groups
