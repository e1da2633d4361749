"""The kernels of a program compiled for a GPU, read from its text: what each reads, writes and
computes.

A GPU runs them one after another, so a step takes at least the sum of what each takes at least:
its arithmetic at the peak, or its traffic with the memory at full bandwidth. Arrays are taken to be
read and written once, and of one that a kernel cuts, the piece.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from vlmo_jax.bench.program_text import SHAPE, array_bytes, dimensions, read_computations
from vlmo_jax.bench.roofline import Chip

_NAMES = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota")
# What needs all of its operands, whatever is needed of its result.
_WHOLE = ("reduce", "reduce-window", "dot", "custom-call", "scatter", "sort", "tuple")
_LEADING = ("while", "call", "conditional")  # what they lead to is counted there
_FREE = {*_NAMES, *_LEADING, "after-all", "partition-id", "replica-id", "opt-barrier"}
_SLICES = ("slice", "dynamic-slice", "gather")
_SHAPING = ("broadcast", "convert", "copy", "transpose", "reshape", "concatenate", "pad", "reverse")
_MOVES = {*_NAMES, *_SLICES, *_SHAPING, "dynamic-update-slice"}
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
_CALLED = re.compile(r"calls=%?([\w.-]+)")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_CONTRACTED = re.compile(
    r'(?:lhs_contracting_dims=\{|"lhs_contracting_dimensions":\[)([\d,"]*)[\]}]'
)
_SCRATCH = re.compile(r"\b[su]8\[\d*\]")  # among the results of a library's call
_SOURCE = re.compile(r'op_name="([^"]*)"')

PRODUCTS, ATTENTION, SUMS = "products", "attention", "sums over rows, columns"
MOVES, BY_ELEMENT, OTHER = "moves", "by element", "other"


class Kernel(NamedTuple):
    """A kernel, or a call of a library.

    Attributes:
        kind: one of those above.
        shapes: its results, such as "bf16[64,197,768]".
        runs: how often a step runs it.
        read, written: bytes a run.
        flops: of products and attention a run.
        source: the operation it came from, as jax names it.
    """

    kind: str
    shapes: str
    runs: int
    read: int
    written: int
    flops: int
    source: str

    def seconds(self, chip: Chip) -> float:
        """Seconds of all its runs, at least."""
        traffic = (self.read + self.written) / chip.bandwidth
        return self.runs * max(self.flops / chip.flops, traffic)


class _Instruction(NamedTuple):
    root: bool
    name: str
    shape: str
    operation: str
    operands: list[str]
    rest: str  # of the line, the operands included


def read_kernels(text: str) -> list[Kernel]:
    """Lists the kernels of a program.

    Args:
        text: `compiled.as_text()` of a program for a GPU.

    Raises:
        ValueError: see `read_computations`.
    """
    computations = read_computations(text)
    parsed = {name: list(_instructions(lines)) for name, lines in computations.lines.items()}
    kernels = []
    for name in computations.in_turn():
        shapes = {one.name: one.shape for one in parsed[name]}
        for one in parsed[name]:
            if one.operation not in _FREE and not one.operation.endswith(("-done", "-update")):
                kernels.append(_kernel(one, shapes, parsed, computations.runs[name]))
    return kernels


def seconds_by_kind(kernels: Iterable[Kernel], chip: Chip) -> dict[str, tuple[float, int, int]]:
    """Adds up kind -> seconds at least, runs, bytes of a step, the longest first."""
    totals: dict[str, tuple[float, int, int]] = {}
    for one in kernels:
        seconds, runs, size = totals.get(one.kind, (0.0, 0, 0))
        moved = one.runs * (one.read + one.written)
        totals[one.kind] = seconds + one.seconds(chip), runs + one.runs, size + moved
    return dict(sorted(totals.items(), key=lambda item: -item[1][0]))


def _instructions(lines: Iterable[str]) -> Iterator[_Instruction]:
    for line in lines:
        if match := _INSTRUCTION.match(line):
            root, name, shape, operation, rest = match.groups()
            operands = re.findall(r"%([\w.-]+)", _until_closed(rest))
            yield _Instruction(bool(root), name, shape, operation, operands, rest)


def _until_closed(text: str) -> str:
    """What stands before the parenthesis that closes one opened before `text`."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if depth < 0:
            return text[:place]
    return text


def _kernel(
    one: _Instruction,
    shapes: Mapping[str, str],
    parsed: Mapping[str, list[_Instruction]],
    runs: int,
) -> Kernel:
    called = _CALLED.search(one.rest)
    taken = [shapes.get(operand, "") for operand in one.operands]
    if one.operation == "fusion" and called:
        body = parsed[called[1]]
        kind, flops = _kind_of_fusion(body)
        read, written = _read(body), _written(body)
    else:
        target = _TARGET.search(one.rest)
        kind, flops = _kind_of_call(one, target[1] if target else "", taken)
        read, written = sum(map(array_bytes, taken)), array_bytes(_SCRATCH.sub("", one.shape))
    source = _SOURCE.search(one.rest)
    results = " ".join(shape[0] for shape in SHAPE.finditer(one.shape))
    return Kernel(kind, results, runs, read, written, flops, source[1] if source else "")


def _kind_of_call(one: _Instruction, target: str, taken: Sequence[str]) -> tuple[str, int]:
    """Kind and FLOPs of what is not a fusion."""
    if "cublas" in target:
        return PRODUCTS, _product_flops(one, taken)
    if "fmha" in target:
        # Logits and sums of values forward; those and three more products backward.
        query, keys = (_sizes(shape) for shape in taken[:2])
        rows, tokens, heads, width = query
        products = 5 if "Backward" in target else 2
        return ATTENTION, 2 * products * rows * heads * tokens * keys[1] * width
    if one.operation in ("copy", "transpose", "copy-start"):
        return MOVES, 0
    return OTHER, 0


def _kind_of_fusion(body: Sequence[_Instruction]) -> tuple[str, int]:
    operations = {one.operation for one in body}
    shapes = {one.name: one.shape for one in body}
    taken = lambda one: [shapes[operand] for operand in one.operands]
    if "dot" in operations:
        dots = [one for one in body if one.operation == "dot"]
        return PRODUCTS, sum(_product_flops(dot, taken(dot)) for dot in dots)
    for one in body:  # a library's call with what it cuts from a stack
        if one.operation == "custom-call" and (target := _TARGET.search(one.rest)):
            return _kind_of_call(one, target[1], taken(one))
    if operations & {"reduce", "reduce-window"}:
        return SUMS, 0
    return (MOVES if operations <= _MOVES else BY_ELEMENT), 0


def _product_flops(one: _Instruction, taken: Sequence[str]) -> int:
    contracted = _CONTRACTED.search(one.rest)
    if contracted is None:
        raise ValueError(f"a product does not say what it sums over: {one.rest[:200]}")
    axes = [int(axis) for axis in contracted[1].replace('"', "").split(",") if axis]
    summed = math.prod(_sizes(taken[0])[axis] for axis in axes)
    return 2 * summed * math.prod(_sizes(one.shape))


def _sizes(shape: str) -> tuple[int, ...]:
    """Dimensions of the first array of a shape."""
    match = SHAPE.search(shape)
    return dimensions(match) if match else ()


def _read(body: Sequence[_Instruction]) -> int:
    """Bytes of its parameters that a fusion needs: of those that are cut, the piece."""
    shapes = {one.name: one.shape for one in body}
    count = lambda name: math.prod(_sizes(shapes[name]))
    needed = {one.name: count(one.name) if one.root else 0 for one in body}
    for one in reversed(body):
        # A step of a loop writes its part of a buffer in place.
        in_place = one.operation == "dynamic-update-slice"
        whole = one.operation in _WHOLE
        for operand in one.operands[1:] if in_place else one.operands:
            if operand not in needed:
                continue
            if one.operation in _SLICES:
                wanted = needed[operand] + needed[one.name]
            else:
                wanted = count(operand) if whole else max(needed[operand], needed[one.name])
            needed[operand] = min(count(operand), wanted)
    return sum(
        needed[one.name] * array_bytes(one.shape) // max(1, count(one.name))
        for one in body
        if one.operation == "parameter"
    )


def _written(body: Sequence[_Instruction]) -> int:
    """Bytes that a fusion writes: of a buffer that it changes in place, the part."""
    by_name = {one.name: one for one in body}

    def size(one: _Instruction) -> int:
        if one.operation == "tuple":
            return sum(size(by_name[operand]) for operand in one.operands)
        if one.operation == "bitcast":
            return size(by_name[one.operands[0]])
        if one.operation == "dynamic-update-slice":
            return array_bytes(by_name[one.operands[1]].shape)
        return array_bytes(
            _SCRATCH.sub("", one.shape) if one.operation == "custom-call" else one.shape
        )

    return next(size(one) for one in body if one.root)
