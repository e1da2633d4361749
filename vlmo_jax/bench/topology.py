"""Compiles the train step for TPUs or GPUs that one does not have: what it needs, what travels, and
on a GPU which kernels it runs.

Nothing runs here: times are bounds, see roofline.py.
"""

import collections
import math
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from vlmo_jax.bench.collectives import Collective, bytes_by_axes, bytes_by_kind, read_collectives
from vlmo_jax.bench.kernels import Kernel, read_kernels, seconds_by_kind
from vlmo_jax.bench.report import Report, gibibytes, quantity
from vlmo_jax.bench.roofline import Bounds, Chip, bounds_of, find_chip, find_splits
from vlmo_jax.bench.steps import title, without_data
from vlmo_jax.bench.targets import is_gpu, topology_devices
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.commands.endings import UserError
from vlmo_jax.models.flops import TRAINING_FACTOR
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.program import Program, build_program, compiled_bytes


class UnwritableProgramError(UserError, RuntimeError):
    """XLA has compiled a program that it cannot write as text."""


def benchmark_topology(config: ConfigDict, *, topology: str, largest: int = 12) -> Report:
    """Compiles a recipe's train step ahead of time.

    Args:
        config: ConfigDict of a recipe; `config.model.dtype` "auto" means bfloat16 here.
        topology: see `topology_devices`.
        largest: how many of the collectives that move most to list, and of the kernels that take
            longest.

    Returns:
        Report.

    Raises:
        ConfigError: its compiler is not installed or does not know the topology, or the config
            cannot run on it or does not fit into the chips' memory.
        UnwritableProgramError: XLA cannot write what it has compiled.
    """
    config = prepared(config)
    devices = topology_devices(topology)
    recipe = Recipe(config)
    with jax.set_mesh(sharding.make_mesh(devices=devices[:1])):  # what it is checked for
        recipe.check(len(devices))
    mesh = sharding.make_mesh(config.mesh, devices)
    with jax.set_mesh(mesh):
        program = build_program(recipe, mesh)
        compiled, seconds, memory = _compile(program)
    text = _text(compiled, topology, memory)
    collectives = read_collectives(text)
    kernels = read_kernels(text) if is_gpu(topology) else []
    kinds = bytes_by_kind(collectives)
    axes = bytes_by_axes(collectives, mesh.shape)
    parts = _memory_by_kind(program, memory)
    chip = find_chip(topology)
    flops = TRAINING_FACTOR * recipe.forward_flops() * config.batch_size / mesh.size
    bounds = _bounds(chip, flops, memory, collectives, mesh.size)
    rows = [
        ("compile", f"{seconds:.0f} s"),
        (
            "the program needs",
            (
                f"{gibibytes(compiled_bytes(memory))} a chip,"
                f" {gibibytes(memory.argument_size_in_bytes)} of it arguments"
            ),
        ),
        *((f"  {name}", gibibytes(size)) for name, size in parts.items()),
        ("arithmetic", f"{quantity(flops, 'FLOP')} a chip a step, the official computation"),
        ("collectives", f"{megabytes(sum(kinds.values()))} a chip a step"),
        *(
            (
                f"  {kind} {dtype}",
                f"{megabytes(size)}, {runs} times, along {' x '.join(along) or 'none'}",
            )
            for (kind, dtype, along), (runs, size) in axes.items()
        ),
        *_forecast(bounds, chip, parts["peak"], collectives, mesh),
        *_largest(collectives, largest),
        *_in_turn(kernels, chip, flops, config.batch_size / mesh.size, largest),
    ]
    record = {
        "benchmark": "topology",
        "topology": topology,
        "batch_size": config.batch_size,
        "accumulation": config.accumulation,
        "model": config.model.to_dict(),
        "mesh": dict(mesh.shape),
        "jax": jax.__version__,
        "compile_seconds": seconds,
        "compiled_bytes": compiled_bytes(memory),
        "argument_bytes": memory.argument_size_in_bytes,
        "memory_bytes": parts,
        "flops": flops,
        "collective_bytes": {" ".join(key): size for key, size in kinds.items()},
        "collectives_by_axis": [
            {"kind": kind, "dtype": dtype, "axes": along, "runs": runs, "bytes": size}
            for (kind, dtype, along), (runs, size) in axes.items()
        ],
        "seconds_at_least": bounds and bounds._asdict(),
        "kernels": _kernel_record(kernels, chip),
    }
    return Report(
        title(f"train step compiled for {topology}", config.batch_size, config.model.dtype, mesh),
        rows,
        record,
    )


def search_topology(config: ConfigDict, *, topology: str, compiled: int = 0) -> Report:
    """Counts every split that a recipe can take on a topology, and compiles the best.

    Args:
        config: ConfigDict of a recipe; its `mesh` is not looked at.
        topology: see `topology_devices`.
        compiled: how many of the best to compile, a matter of minutes each.

    Returns:
        Report, the best split first.

    Raises:
        ConfigError: see `benchmark_topology`.
    """
    config = prepared(config)
    num_chips = len(topology_devices(topology))
    splits = find_splits(config, topology, num_chips)
    rows, records = [], []
    for number, split in enumerate(splits):
        mesh = dict(zip(sharding.MESH_AXES, split.mesh, strict=True))
        record = {**split._asdict(), "mesh": mesh, "bounds": split.bounds._asdict()}
        text = (
            f"{gibibytes(split.memory)} a chip, {megabytes(split.sent)} sent,"
            f" {_seconds(split.bounds)}, {split.bounds.binding} binds"
        )
        if number < compiled:
            tried = config.copy_and_resolve_references()
            tried.mesh.update(mesh)
            record["compiled"] = benchmark_topology(tried, topology=topology).record
            text += f"; compiled {gibibytes(record['compiled']['compiled_bytes'])}"
        rows.append((" x ".join(f"{axis} {size}" for axis, size in mesh.items()), text))
        records.append(record)
    title = f"splits of batch {config.batch_size}, {config.model.dtype}, over {topology}, counted"
    return Report(
        f"{title}: the best first",
        rows,
        {
            "benchmark": "topology_search",
            "topology": topology,
            "batch_size": config.batch_size,
            "model": config.model.to_dict(),
            "splits": records,
        },
    )


def prepared(config: ConfigDict) -> ConfigDict:
    """A copy without data set and evaluations, in bfloat16 unless it says otherwise."""
    config = without_data(config, mode="train")
    config.evals = ConfigDict()
    if config.model.dtype == "auto":
        config.model.dtype = "bfloat16"
    return config


def _memory_by_kind(program: Program, memory: Any) -> dict[str, int]:
    """Bytes a chip of what lies there all the time, of temporaries, and at the peak."""
    state = program.abstract_state
    kinds = {
        "parameters": state.params,
        "moments": state.opt_state,
        "averages and other state": state.extra,
    }
    parts = {name: sum(map(_shard_bytes, jax.tree.leaves(tree))) for name, tree in kinds.items()}
    parts["batch"] = memory.argument_size_in_bytes - sum(parts.values())
    parts["activations, gradients and other temporaries"] = memory.temp_size_in_bytes
    parts["peak"] = getattr(memory, "peak_memory_in_bytes", 0) or compiled_bytes(memory)
    return parts


def _shard_bytes(leaf: jax.ShapeDtypeStruct) -> int:
    assert leaf.sharding is not None, "a state has shardings"
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _bounds(
    chip: Chip | None, flops: float, memory: Any, collectives: list[Collective], num_chips: int
) -> Bounds | None:
    """At least: arguments read, results written, temporaries written and read once."""
    if chip is None:
        return None
    traffic = memory.argument_size_in_bytes + memory.output_size_in_bytes
    traffic += 2 * memory.temp_size_in_bytes
    received = sum(collective.received(num_chips) for collective in collectives)
    return bounds_of(chip, flops=flops, traffic=traffic, received=received)


def _forecast(
    bounds: Bounds | None,
    chip: Chip | None,
    peak: int,
    collectives: list[Collective],
    mesh: jax.sharding.Mesh,
) -> Iterator[tuple[str, str]]:
    """Rows of what bounds a step, and of what to do about it."""
    if bounds is None or chip is None:
        return
    yield "a step takes", f"{_seconds(bounds)} (all at once to one after another)"
    for name, seconds in bounds._asdict().items():
        yield f"  {name}", f"{1e3 * seconds:,.3g} ms at the published peak"
    share = peak / chip.memory
    along: collections.Counter[str] = collections.Counter()
    for collective in collectives:
        along[" x ".join(collective.axes(mesh.shape))] += round(collective.received(mesh.size))
    if bounds.binding == "links":
        axis, size = along.most_common(1)[0]
        advice = f"links bind, {megabytes(size)} of it along {axis}: try less of it"
    else:
        advice = f"{bounds.binding} binds, not the links: the split costs little"
    if share < 0.5:
        advice += "; half of the memory is free: try a larger batch, remat=dots or less fsdp"
    yield "advice", f"{advice} (peak {share:.0%} of {gibibytes(int(chip.memory))})"


def _seconds(bounds: Bounds) -> str:
    return f"at least {max(bounds):.3g} to {sum(bounds):.3g} s"


def _compile(program: Any) -> tuple[Any, float, Any]:
    try:
        return program.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ConfigError(
            f"the step does not fit: {' '.join(str(error).splitlines()[:3])}; use"
            " --config.model.remat=block, more of --config.mesh.fsdp, --config.accumulation=2 or"
            " more, or a larger topology"
        ) from error


def _text(compiled: Any, topology: str, memory: Any) -> str:
    """A compiled program as text, which XLA cannot write of every one."""
    try:
        return compiled.as_text()
    except jax.errors.JaxRuntimeError as error:
        raise UnwritableProgramError(
            f"the step compiles for {topology} and needs {gibibytes(compiled_bytes(memory))} a"
            " chip, but XLA cannot write the program as text, in which its collectives stand:"
            f" {str(error).splitlines()[0][:200]}; use another version of libtpu, or --search,"
            " which counts"
        ) from error


def _largest(collectives: Iterable[Collective], count: int) -> Iterator[tuple[str, str]]:
    """Rows of the collectives that move most; those alike in kind and shapes are one."""
    alike = collections.defaultdict(list)
    for collective in collectives:
        alike[collective.kind, collective.shapes].append(collective)
    groups = sorted(alike.items(), key=lambda item: -sum(c.bytes * c.runs for c in item[1]))
    if groups:
        yield "the largest", ""
    for (kind, shapes), group in groups[:count]:
        size, runs = sum(c.bytes * c.runs for c in group), sum(c.runs for c in group)
        first, *more = shapes.split(" ")
        what = f"{first} and {len(more)} more" if more else first
        yield (
            f"  {megabytes(size)}",
            f"{runs} x {kind} {what}, {_source(group[0])}",
        )


def _in_turn(
    kernels: list[Kernel], chip: Chip | None, flops: float, samples: float, count: int
) -> Iterator[tuple[str, str]]:
    """Rows of kernels that run one after another, by kind, and of the longest.

    Args:
        kernels: of a chip's step; none for TPUs.
        chip: that they run on.
        flops: of the official computation of a chip's step.
        samples: of the batch that a chip has.
        count: of the longest.
    """
    if not kernels or chip is None:
        return
    seconds = sum(kernel.seconds(chip) for kernel in kernels)
    share, rate = flops / seconds / chip.flops, samples / seconds
    yield (
        "kernels in turn",
        (
            f"at least {seconds:.3g} s: at most {rate:.4g} samples/s a chip, {share:.0%} of the"
            " published peak by the official computation"
        ),
    )
    for kind, (taken, runs, size) in seconds_by_kind(kernels, chip).items():
        yield f"  {kind}", f"{1e3 * taken:.3g} ms, {runs} times, {quantity(size, 'B')}"
    yield "the longest", ""
    alike = collections.defaultdict(list)
    for kernel in kernels:
        alike[kernel.kind, kernel.shapes, kernel.read, kernel.written].append(kernel)
    groups = [(sum(k.seconds(chip) for k in group), group) for group in alike.values()]
    for taken, group in sorted(groups, key=lambda one: -one[0])[:count]:
        first, *more = group[0].shapes.split(" ")
        what = f"{first} and {len(more)} more" if more else first
        moved = f"reads {megabytes(group[0].read)}, writes {megabytes(group[0].written)}"
        yield (
            f"  {1e3 * taken:.3g} ms",
            f"{sum(k.runs for k in group)} x {group[0].kind} {what}, {moved}, {_source(group[0])}",
        )


def _kernel_record(kernels: list[Kernel], chip: Chip | None) -> dict[str, Any] | None:
    if not kernels or chip is None:
        return None
    kinds = seconds_by_kind(kernels, chip).items()
    return {
        kind: {"seconds_at_least": seconds, "runs": runs, "bytes": size}
        for kind, (seconds, runs, size) in kinds
    }


def _source(what: Collective | Kernel) -> str:
    return what.source.removeprefix("jit(step)/")[:80]


def megabytes(count: float) -> str:
    """A number of bytes in MB."""
    return f"{count / 1e6:,.1f} MB"
