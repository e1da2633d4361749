"""Compiles the train step for a TPU pod that one does not have: what it needs, and what travels.

libtpu compiles for TPUs on any Linux machine. Nothing runs: times are bounds, see roofline.py.
"""

import collections
import importlib.util
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
from jax.experimental import topologies
from ml_collections import ConfigDict

from vlmo_jax.bench.collectives import Collective, bytes_by_axes, bytes_by_kind, read_collectives
from vlmo_jax.bench.report import Report, gibibytes, quantity
from vlmo_jax.bench.roofline import Bounds, Chip, bounds_of, find_chip, find_splits
from vlmo_jax.bench.steps import title, without_data
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.commands.endings import UserError
from vlmo_jax.models.flops import TRAINING_FACTOR
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.program import Program, build_program, compiled_bytes

# libtpu would ask a TPU machine's environment for these; without a TPU it says at length that it
# cannot.
COMPILE_ONLY = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class UnwritableProgramError(UserError, RuntimeError):
    """XLA has compiled a program that it cannot write as text."""


def benchmark_topology(config: ConfigDict, *, topology: str, largest: int = 12) -> Report:
    """Compiles a recipe's train step ahead of time.

    Args:
        config: ConfigDict of a recipe; `config.model.dtype` "auto" means bfloat16 here.
        topology: name that libtpu knows, such as "v5e:4x4" or "v4:2x2x2".
        largest: how many of the collectives that move most to list.

    Returns:
        Report.

    Raises:
        ConfigError: libtpu is not installed, it does not know the topology, or the config
            cannot run on it or does not fit into the chips' memory.
        UnwritableProgramError: XLA cannot write what it has compiled.
    """
    config = prepared(config)
    devices = topology_devices(topology)
    recipe = Recipe(config)
    recipe.check(len(devices))
    mesh = sharding.make_mesh(config.mesh, devices)
    with jax.set_mesh(mesh):
        program = build_program(recipe, mesh)
        compiled, seconds, memory = _compile(program)
    collectives = read_collectives(_text(compiled, topology, memory))
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
        ("the largest", ""),
        *_largest(collectives, largest),
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
        topology: name that libtpu knows.
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


def topology_devices(name: str) -> Sequence[jax.Device]:
    """Devices of a TPU topology, to compile for only.

    Raises:
        ConfigError: see `benchmark_topology`.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            "compiling for TPU needs libtpu, which is not installed here; run pip install -e"
            " '.[tpu]' (no TPU is needed)"
        )
    for variable, value in COMPILE_ONLY.items():
        os.environ.setdefault(variable, value)
    # A device of jax is a chip; libtpu takes the two cores of a v4 chip for two devices unless
    # told.
    cores = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    try:
        return topologies.get_topology_desc(name, platform="tpu", **cores).devices
    except RuntimeError as error:
        raise ConfigError(
            f"--topology={name}: {str(error).splitlines()[0]}; use a name such as v4:2x2x2,"
            " v5e:4x4, v5p:2x2x2 or v6e:4x4"
        ) from error


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
    for (kind, shapes), group in groups[:count]:
        size, runs = sum(c.bytes * c.runs for c in group), sum(c.runs for c in group)
        first, *more = shapes.split(" ")
        what = f"{first} and {len(more)} more" if more else first
        yield (
            f"  {megabytes(size)}",
            f"{runs} x {kind} {what}, {group[0].source.removeprefix('jit(step)/')[:80]}",
        )


def megabytes(count: float) -> str:
    """A number of bytes in MB."""
    return f"{count / 1e6:,.1f} MB"
