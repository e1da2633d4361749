"""What travels between chips, read from the text of a compiled program.

XLA's own cost analysis counts the body of a loop once, and says nothing of collectives. Here every
collective counts as often as it runs: the trip counts of the loops around it are multiplied.
"""

import collections
import math
import re
from typing import NamedTuple

KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\) -> .*\{$")
_COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(KINDS)})(-start)?\(")
_SHAPE = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_WHILE = re.compile(r" while\(.*condition=%?([\w.-]+), body=%?([\w.-]+)")
_CALLED = re.compile(
    r"(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)|(?:branch_computations|calls)=\{([^}]*)\}"
)
_TRIP_COUNT = re.compile(r'known_trip_count\\?":\{\\?"n\\?":\\?"(\d+)')
_CONSTANT = re.compile(r"[su]\d+\[\].* constant\((\d+)\)")


class Collective(NamedTuple):
    """One collective of a compiled program.

    Attributes:
        kind: one of KINDS.
        shapes: its result on one chip, such as "bf16[64,197,768]".
        bytes: size of that on one chip; of the operand where the result is scattered.
        runs: how often a step runs it.
        source: the operation it came from, as jax names it.
    """

    kind: str
    shapes: str
    bytes: int
    runs: int
    source: str


def read_collectives(text):
    """Lists the collectives of a compiled program.

    Args:
        text: `compiled.as_text()`.

    Returns:
        Collectives, the one that moves most bytes first.

    Raises:
        ValueError: the text has no entry computation, or a loop's trip count is not in it.
    """
    computations, entry = _split(text)
    runs = _count_runs(computations, entry)
    found = {}
    for name, lines in computations.items():
        if not runs[name]:
            continue
        for line in lines:
            if match := _COLLECTIVE.search(line):
                collective = _collective(match, line, name, runs[name])
                # TPU compilers cut one collective into a chain of fusions that overlap with
                # compute.
                chain = re.search(r"channel_id=(\d+).*chain_id=", line)
                found.setdefault(("chain", chain[1]) if chain else line, collective)
    return sorted(found.values(), key=lambda c: -c.bytes * c.runs)


def bytes_by_kind(collectives):
    """Adds up (kind, element type) -> bytes a chip a step, largest first."""
    totals = collections.Counter()
    for collective in collectives:
        totals[collective.kind, collective.shapes.split("[")[0]] += (
            collective.bytes * collective.runs
        )
    return dict(totals.most_common())


def _split(text):
    computations, entry, name = {}, None, None
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            name = match[2]
            computations[name] = []
            entry = name if match[1] else entry
        elif name is not None:
            computations[name].append(line)
    if entry is None:
        raise ValueError("this is no text of a compiled program: it has no ENTRY computation")
    return computations, entry


def _count_runs(computations, entry):
    """How often each computation runs, from the entry down."""
    called = {name: _calls(lines, computations) for name, lines in computations.items()}
    order, seen = [], set()

    def visit(name):  # callees first
        if name not in seen:
            seen.add(name)
            for callee, _ in called[name]:
                visit(callee)
            order.append(name)

    visit(entry)
    runs = collections.Counter({entry: 1})
    for name in reversed(order):
        for callee, times in called[name]:
            runs[callee] += runs[name] * times
    return runs


def _calls(lines, computations):
    calls = []
    for line in lines:
        if match := _WHILE.search(line):
            trips = _trip_count(line, computations[match[1]])
            calls += [(match[1], trips + 1), (match[2], trips)]
        elif not re.search(r"-(done|update)\(", line):
            names = [
                name
                for one, many in _CALLED.findall(line)
                for name in (one or many).replace("%", "").split(", ")
            ]
            calls += [(name, 1) for name in names if name in computations]
    return calls


def _trip_count(line, condition):
    """What XLA has noted, or the limit that the loop's counter is compared with."""
    if match := _TRIP_COUNT.search(line):
        return int(match[1])
    limits = [int(match[1]) for match in map(_CONSTANT.search, condition) if match]
    if len(limits) != 1:
        raise ValueError(f"the trip count of a loop is not in the text: {line.strip()[:200]}")
    return limits[0]


def _collective(match, line, computation, runs):
    kind = match[2]
    # On TPU a reduce-scatter is an all-reduce in a fusion that keeps one slice of it.
    if kind == "all-reduce" and "all-reduce-scatter" in computation:
        kind = "reduce-scatter"
    shapes = [
        shape for shape in _SHAPE.finditer(match[1]) if not (match[3] and shape[0] == "u32[]")
    ]
    if match[3] and match[2] != "all-reduce":  # (operands..., results...)
        shapes = shapes[len(shapes) // 2 :]
    size = sum(
        math.prod(map(int, filter(None, shape[3].split(",")))) * _bytes(shape) for shape in shapes
    )
    if match[2] == "reduce-scatter":
        group = re.search(r"replica_groups=(?:\{\{([\d,]+)\}|\[\d+,(\d+)\])", line)
        size *= (len(group[1].split(",")) if group[1] else int(group[2])) if group else 1
    source = re.search(r'op_name="([^"]*)"', line)
    return Collective(
        kind, " ".join(shape[0] for shape in shapes), size, runs, source[1] if source else ""
    )


def _bytes(shape):
    return max(1, int(shape[2]) // 8) if shape[2] else 1
