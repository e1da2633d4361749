"""What travels between chips, read from the text of a compiled program.

XLA's own cost analysis counts the body of a loop once, and says nothing of collectives. Here every
collective counts as often as it runs: the trip counts of the loops around it are multiplied.
"""

import collections
import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from vlmo_jax.bench.program_text import SHAPE, dimensions, element_bytes, read_computations

KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)

_COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(KINDS)})(-start)?\((.*?)\)(?:, |$)")
_DEFINITION = re.compile(r"(%[\w.-]+) = ((?:pred|[a-z]+\d+\w*)\[[\d,]*\])")
# Written out, or as a grid of all chips: [groups,members]<=[sizes]T(order), or as axes of a mesh,
# of which a part may be meant: mesh['a'=4,'b'=4] {'b','a':(2)2}.
_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}")
_GRID = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")
_MESH_AXIS = re.compile(r"'([^']+)'=(\d+)")
_MESH_PART = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")


class Collective(NamedTuple):
    """One collective of a compiled program.

    Attributes:
        kind: one of KINDS.
        shapes: its result on one chip, such as "bf16[64,197,768]".
        operands: what it takes on one chip, in the same form.
        bytes: size of the result on one chip; of the operand where the result is scattered.
        runs: how often a step runs it.
        source: the operation it came from, as jax names it.
        groups: numbers of the chips that send to one another, in the order of the mesh; none where
            all do.
    """

    kind: str
    shapes: str
    operands: str
    bytes: int
    runs: int
    source: str
    groups: tuple[tuple[int, ...], ...] = ()

    def received(self, num_chips: int) -> float:
        """Bytes that reach each chip in a step if the groups pass them round in rings.

        Args:
            num_chips: of the mesh.
        """
        members = len(self.groups[0]) if self.groups else num_chips
        share = 1.0 if self.kind == "collective-permute" else (members - 1) / members
        return self.bytes * self.runs * share * (2 if self.kind == "all-reduce" else 1)

    def axes(self, mesh_shape: Mapping[str, int]) -> tuple[str, ...]:
        """The axes of the mesh that it goes along.

        Args:
            mesh_shape: name of an axis -> size, in the order of the mesh.
        """
        sizes = tuple(mesh_shape.values())
        groups = self.groups or (tuple(range(math.prod(sizes))),)
        moving = np.zeros(len(sizes), bool)
        for group in groups:
            moving |= np.ptp(np.unravel_index(np.asarray(group), sizes), axis=1) > 0
        return tuple(name for name, moves in zip(mesh_shape, moving, strict=True) if moves)

    def arrays(self) -> list[tuple[str, tuple[int, ...]]]:
        """Element type and shape of each array that it gives or takes on one chip."""
        shapes = SHAPE.finditer(f"{self.shapes} {self.operands}")
        return [(shape[1], dimensions(shape)) for shape in shapes]


def read_collectives(text: str) -> list[Collective]:
    """Lists the collectives of a compiled program.

    Args:
        text: `compiled.as_text()`.

    Returns:
        Collectives, the one that moves most bytes first.

    Raises:
        ValueError: the text has no entry computation, or a loop's trip count is not in it.
    """
    computations, _, runs = read_computations(text)
    defined = dict(_DEFINITION.findall(text))
    found: dict[str, Collective] = {}
    for name, lines in computations.items():
        if not runs[name]:
            continue
        for line in lines:
            if match := _COLLECTIVE.search(line):
                collective = _collective(match, line, name, runs[name], defined)
                # TPU compilers cut one collective into a chain of fusions that overlap with
                # compute.
                chain = re.search(r"channel_id=(\d+).*chain_id=", line)
                found.setdefault(f"chain {chain[1]}" if chain else line, collective)
    return sorted(found.values(), key=lambda c: -c.bytes * c.runs)


def bytes_by_kind(collectives: Iterable[Collective]) -> dict[tuple[str, str], int]:
    """Adds up (kind, element type) -> bytes a chip a step, largest first."""
    totals: collections.Counter[tuple[str, str]] = collections.Counter()
    for collective in collectives:
        element = collective.shapes.split("[")[0]
        totals[collective.kind, element] += collective.bytes * collective.runs
    return dict(totals.most_common())


def bytes_by_axes(
    collectives: Iterable[Collective], mesh_shape: Mapping[str, int]
) -> dict[tuple[str, str, tuple[str, ...]], tuple[int, int]]:
    """Adds up (kind, element type, axes of the mesh) -> runs and bytes a chip a step, most bytes
    first.
    """
    totals: dict[tuple[str, str, tuple[str, ...]], tuple[int, int]] = {}
    for collective in collectives:
        key = collective.kind, collective.shapes.split("[")[0], collective.axes(mesh_shape)
        runs, size = totals.get(key, (0, 0))
        totals[key] = runs + collective.runs, size + collective.bytes * collective.runs
    return dict(sorted(totals.items(), key=lambda item: -item[1][1]))


def _collective(
    match: re.Match, line: str, computation: str, runs: int, defined: Mapping[str, str]
) -> Collective:
    """What a line says that _COLLECTIVE matches.

    Args:
        match: of the line.
        line: of the text.
        computation: name of the one that the line is in.
        runs: how often that one runs.
        defined: name of an operation, with its %, -> shape of its result.
    """
    result, kind, starts, taken = match.groups()
    groups = _groups(line)
    shapes = [shape for shape in SHAPE.finditer(result) if not (starts and shape[0] == "u32[]")]
    if starts and kind != "all-reduce":  # (operands..., results...)
        shapes = shapes[len(shapes) // 2 :]
    size = sum(math.prod(dimensions(shape)) * element_bytes(shape) for shape in shapes)
    if kind == "reduce-scatter":
        size *= len(groups[0]) if groups else 1
    # On TPU a reduce-scatter is an all-reduce in a fusion that keeps one slice of it.
    if kind == "all-reduce" and "all-reduce-scatter" in computation:
        kind = "reduce-scatter"
    named = [defined[name] for name in re.findall(r"%[\w.-]+", taken) if name in defined]
    operands = named or [shape[0] for shape in SHAPE.finditer(taken)]
    source = re.search(r'op_name="([^"]*)"', line)
    return Collective(
        kind=kind,
        shapes=" ".join(shape[0] for shape in shapes),
        operands=" ".join(operands),
        bytes=size,
        runs=runs,
        source=source[1] if source else "",
        groups=groups,
    )


def _groups(line: str) -> tuple[tuple[int, ...], ...]:
    """The chips of each group of a collective, or the pairs of a permutation; none where the line
    does not say.
    """
    if match := _LISTED.search(line):
        return tuple(
            tuple(map(int, group.split(","))) for group in re.findall(r"[\d,]+\d", match[1])
        )
    if match := _GRID.search(line):
        sizes = [int(size) for size in match[3].split(",")]
        order = [int(axis) for axis in match[4].split(",")] if match[4] else None
        grid = np.arange(math.prod(sizes)).reshape(sizes).transpose(order)
        return tuple(map(tuple, grid.reshape(int(match[1]), int(match[2])).tolist()))
    if match := _MESH.search(line):
        return _groups_of_mesh(match[1], match[2])
    return ()


def _groups_of_mesh(axes: str, joined: str) -> tuple[tuple[int, ...], ...]:
    """The groups of chips that differ in the joined axes, or parts of axes, of a mesh alone."""
    parts = {name: (before, size) for name, before, size in _MESH_PART.findall(joined)}
    sizes: list[int] = []
    moving: list[int] = []
    for name, length in _MESH_AXIS.findall(axes):
        before, size = parts.get(name, ("", ""))
        before, size = int(before or 1), int(size or length)
        if name in parts:
            moving.append(len(sizes) + 1)
        sizes += [before, size, int(length) // (before * size)]
    grid = np.moveaxis(np.arange(math.prod(sizes)).reshape(sizes), moving, range(-len(moving), 0))
    members = math.prod(sizes[axis] for axis in moving)
    return tuple(map(tuple, grid.reshape(-1, members).tolist()))
