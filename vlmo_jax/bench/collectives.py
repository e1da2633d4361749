"""What travels between chips, read from the text of a compiled program.

XLA's own cost analysis counts the body of a loop once, and says nothing of collectives. Here every
collective counts as often as it runs: the trip counts of the loops around it are multiplied.
"""

import collections
import math
import re
from collections.abc import Iterable, Mapping
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
_COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(KINDS)})(-start)?\((.*?)\)(?:, |$)")
_DEFINITION = re.compile(r"(%[\w.-]+) = ((?:pred|[a-z]+\d+\w*)\[[\d,]*\])")
_SHAPE = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_WHILE = re.compile(r" while\(.*condition=%?([\w.-]+), body=%?([\w.-]+)")
_CALLED = re.compile(
    r"(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)"
    r"|(?:branch_computations|calls)=\{([^}]*)\}"
)
_TRIP_COUNT = re.compile(r'known_trip_count\\?":\{\\?"n\\?":\\?"(\d+)')
_CONSTANT = re.compile(r"[su]\d+\[\].* constant\((\d+)\)")
_GROUP = re.compile(r"replica_groups=(?:\{\{([\d,]+)\}|\[\d+,(\d+)\])")


class Collective(NamedTuple):
    """One collective of a compiled program.

    Attributes:
        kind: one of KINDS.
        shapes: its result on one chip, such as "bf16[64,197,768]".
        operands: what it takes on one chip, in the same form.
        bytes: size of the result on one chip; of the operand where the result is scattered.
        runs: how often a step runs it.
        source: the operation it came from, as jax names it.
    """

    kind: str
    shapes: str
    operands: str
    bytes: int
    runs: int
    source: str

    def arrays(self) -> list[tuple[str, tuple[int, ...]]]:
        """Element type and shape of each array that it gives or takes on one chip."""
        shapes = _SHAPE.finditer(f"{self.shapes} {self.operands}")
        return [(shape[1], _dimensions(shape)) for shape in shapes]


def read_collectives(text: str) -> list[Collective]:
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


def _split(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation, and the name of the entry."""
    computations: dict[str, list[str]] = {}
    entry = name = None
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


def _count_runs(computations: Mapping[str, list[str]], entry: str) -> collections.Counter[str]:
    """How often each computation runs, from the entry down."""
    called = {name: _calls(lines, computations) for name, lines in computations.items()}
    order: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:  # callees first
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


def _calls(lines: Iterable[str], computations: Mapping[str, list[str]]) -> list[tuple[str, int]]:
    """The computations that these lines call, and how often."""
    calls = []
    for line in lines:
        if match := _WHILE.search(line):
            trips = _trip_count(line, computations[match[1]])
            calls += [(match[1], trips + 1), (match[2], trips)]
        elif not re.search(r"-(done|update)\(", line):
            for one, many in _CALLED.findall(line):
                names = (one or many).replace("%", "").split(", ")
                calls += [(name, 1) for name in names if name in computations]
    return calls


def _trip_count(line: str, condition: Iterable[str]) -> int:
    """What XLA has noted, or the limit that the loop's counter is compared with."""
    if match := _TRIP_COUNT.search(line):
        return int(match[1])
    limits = [int(match[1]) for match in map(_CONSTANT.search, condition) if match]
    if len(limits) != 1:
        raise ValueError(f"the trip count of a loop is not in the text: {line.strip()[:200]}")
    return limits[0]


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
    shapes = [shape for shape in _SHAPE.finditer(result) if not (starts and shape[0] == "u32[]")]
    if starts and kind != "all-reduce":  # (operands..., results...)
        shapes = shapes[len(shapes) // 2 :]
    size = sum(math.prod(_dimensions(shape)) * _bytes(shape) for shape in shapes)
    if kind == "reduce-scatter":
        size *= _group_size(line)
    # On TPU a reduce-scatter is an all-reduce in a fusion that keeps one slice of it.
    if kind == "all-reduce" and "all-reduce-scatter" in computation:
        kind = "reduce-scatter"
    named = [defined[name] for name in re.findall(r"%[\w.-]+", taken) if name in defined]
    operands = named or [shape[0] for shape in _SHAPE.finditer(taken)]
    source = re.search(r'op_name="([^"]*)"', line)
    return Collective(
        kind=kind,
        shapes=" ".join(shape[0] for shape in shapes),
        operands=" ".join(operands),
        bytes=size,
        runs=runs,
        source=source[1] if source else "",
    )


def _group_size(line: str) -> int:
    """How many chips a collective joins; 1 where the line does not say."""
    group = _GROUP.search(line)
    if group is None:
        return 1
    return len(group[1].split(",")) if group[1] else int(group[2])


def _dimensions(shape: re.Match) -> tuple[int, ...]:
    return tuple(int(size) for size in shape[3].split(",") if size)


def _bytes(shape: re.Match) -> int:
    return max(1, int(shape[2]) // 8) if shape[2] else 1
