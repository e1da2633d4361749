"""A compiled program as text: its computations, how often each of them runs, and shapes in it."""

import collections
import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

SHAPE = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\) -> .*\{$")
_WHILE = re.compile(r" while\(.*condition=%?([\w.-]+), body=%?([\w.-]+)")
_CALLED = re.compile(
    r"(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)"
    r"|(?:branch_computations|calls)=\{([^}]*)\}"
)
_TRIP_COUNT = re.compile(r'known_trip_count\\?":\{\\?"n\\?":\\?"(\d+)')
_CONSTANT = re.compile(r"[su]\d+\[\].* constant\((\d+)\)")


class Computations(NamedTuple):
    """What a program is made of.

    Attributes:
        lines: name of each computation -> its lines.
        entry: name of the one that the program begins with.
        runs: name -> how often a run of the program runs it.
    """

    lines: dict[str, list[str]]
    entry: str
    runs: collections.Counter[str]

    def in_turn(self) -> list[str]:
        """Names of the computations whose instructions run one after another: the entry, and what
        loops, calls and branches lead to. Not those of a fusion, nor the conditions of loops.
        """
        found = [self.entry]
        for name in found:  # which grows
            for line in self.lines[name]:
                led: list[str] = []
                if match := _WHILE.search(line):
                    led = [match[2]]
                elif re.search(r" (call|conditional)\(", line):
                    led = [called for called, _ in _calls([line], self.lines)]
                found += [called for called in led if called not in found]
        return found


def read_computations(text: str) -> Computations:
    """Reads the computations of a program.

    Args:
        text: `compiled.as_text()`.

    Raises:
        ValueError: the text has no entry computation, or a loop's trip count is not in it.
    """
    lines, entry = _split(text)
    return Computations(lines, entry, _count_runs(lines, entry))


def dimensions(shape: re.Match) -> tuple[int, ...]:
    """Of a match of SHAPE."""
    return tuple(int(size) for size in shape[3].split(",") if size)


def element_bytes(shape: re.Match) -> int:
    """Bytes of an element of a match of SHAPE."""
    return max(1, int(shape[2]) // 8) if shape[2] else 1


def array_bytes(text: str) -> int:
    """Bytes of all shapes in a text, such as "(bf16[8,4]{1,0}, f32[8])"."""
    return sum(
        math.prod(dimensions(shape)) * element_bytes(shape) for shape in SHAPE.finditer(text)
    )


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
