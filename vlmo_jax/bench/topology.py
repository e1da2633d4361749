"""Compiles the train step for a TPU pod that one does not have: what it needs, and what travels.

libtpu compiles for TPUs on any Linux machine. Nothing runs, so there are no times here.
"""

import collections
import importlib.util
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
from jax.experimental import topologies
from ml_collections import ConfigDict

from vlmo_jax.bench.collectives import Collective, bytes_by_kind, read_collectives
from vlmo_jax.bench.report import Report, gibibytes
from vlmo_jax.bench.steps import title, without_data
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.program import build_program, compiled_bytes

# libtpu would ask a TPU machine's environment for these; without a TPU it says at length that it
# cannot.
COMPILE_ONLY = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


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
    """
    config = without_data(config, mode="train")
    if config.model.dtype == "auto":
        config.model.dtype = "bfloat16"
    devices = topology_devices(topology)
    recipe = Recipe(config)
    recipe.check(len(devices))
    mesh = sharding.make_mesh(config.mesh, devices)
    with jax.set_mesh(mesh):
        compiled, seconds, memory = _compile(build_program(recipe, mesh))
    collectives = read_collectives(compiled.as_text())
    kinds = bytes_by_kind(collectives)
    rows = [
        ("compile", f"{seconds:.0f} s"),
        (
            "the program needs",
            (
                f"{gibibytes(compiled_bytes(memory))} a chip,"
                f" {gibibytes(memory.argument_size_in_bytes)} of it arguments"
            ),
        ),
        ("collectives", f"{_size(sum(kinds.values()))} a chip a step"),
        *((f"  {kind} {dtype}", _size(size)) for (kind, dtype), size in kinds.items()),
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
        "collective_bytes": {" ".join(key): size for key, size in kinds.items()},
    }
    return Report(
        title(f"train step compiled for {topology}", config.batch_size, config.model.dtype, mesh),
        rows,
        record,
    )


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
            f"  {_size(size)}",
            f"{runs} x {kind} {what}, {group[0].source.removeprefix('jit(step)/')[:80]}",
        )


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
