"""Devices that one does not have, to compile for: TPU slices and NVIDIA GPUs.

libtpu compiles for TPUs and JAX's CUDA plugin for GPUs on any Linux machine.
"""

import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from vlmo_jax.commands.config_errors import ConfigError

# libtpu would ask a TPU machine's environment for these; without a TPU it says at length that it
# cannot.
COMPILE_ONLY = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# From v5p on, scatters may go to the SparseCore, and then XLA cannot write a program as text; of a
# large one it cannot without, either.
_ON_TENSOR_CORE = "--xla_tpu_enable_offloading_scatter_to_sparsecore=false"
CUDA_PLUGINS = ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")


class Gpu(NamedTuple):
    """What XLA asks of an NVIDIA GPU before it compiles for one.

    Attributes:
        name: the device's.
        capability: (major, minor).
        processors: streaming multiprocessors.
        lanes: float32 units of each.
        gigahertz: clock.
        memory: bytes.
        bandwidth: bytes/s of it.
        cache: bytes of level 2.
        shared: bytes of shared memory of a processor, and those that a block may have.
    """

    name: str
    capability: tuple[int, int]
    processors: int
    lanes: int
    gigahertz: float
    memory: int
    bandwidth: int
    cache: int
    shared: tuple[int, int]


# As the devices say of themselves; the descriptions of them in XLA's sources have these numbers.
_H100 = Gpu(
    name="NVIDIA H100 80GB HBM3",
    capability=(9, 0),
    processors=132,
    lanes=128,
    gigahertz=1.98,
    memory=84942979072,
    bandwidth=3352320000000,
    cache=52428800,
    shared=(233472, 232448),
)
GPUS = {
    "a100": Gpu(
        name="NVIDIA A100-SXM4-80GB",
        capability=(8, 0),
        processors=108,
        lanes=64,
        gigahertz=1.41,
        memory=85100068864,
        bandwidth=2039040000000,
        cache=41943040,
        shared=(167936, 166912),
    ),
    "h100": _H100,
    "h200": _H100._replace(name="NVIDIA H200", memory=151397597184, bandwidth=4800000000000),
    "b200": _H100._replace(
        name="NVIDIA B200",
        capability=(10, 0),
        processors=148,
        gigahertz=1.965,
        memory=191514411008,
        bandwidth=7672320000000,
        cache=132644864,
    ),
}
VERSIONS = dict(driver_version="13.0.0", runtime_version="13.0.0", dnn_version="9.10.0")


def topology_devices(name: str) -> Sequence[jax.Device]:
    """Devices of a topology, to compile for only.

    Args:
        name: of a TPU slice, such as "v5e:4x4", or of NVIDIA GPUs: "h100:8" for a machine of
            eight, "h100:4x8" for four such.

    Raises:
        ConfigError: the compiler is not installed, or knows no such topology.
    """
    return _gpus(name) if is_gpu(name) else _tpus(name)


def is_gpu(name: str) -> bool:
    """Whether a topology is one of GPUs."""
    return name.partition(":")[0] in GPUS


def _tpus(name: str) -> Sequence[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError(
            "compiling for TPU needs libtpu, which is not installed here; run pip install -e"
            " '.[tpu]' (no TPU is needed)"
        )
    for variable, value in COMPILE_ONLY.items():
        os.environ.setdefault(variable, value)
    given = os.environ.get("LIBTPU_INIT_ARGS", "")
    if _ON_TENSOR_CORE.partition("=")[0] not in given:
        os.environ["LIBTPU_INIT_ARGS"] = f"{given} {_ON_TENSOR_CORE}".strip()
    # A device of jax is a chip; libtpu takes the two cores of a v4 chip for two devices unless
    # told.
    cores = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    try:
        return topologies.get_topology_desc(name, platform="tpu", **cores).devices
    except RuntimeError as error:
        raise ConfigError(
            f"--topology={name}: {str(error).splitlines()[0]}; use a name such as v4:2x2x2,"
            f" v5e:4x4, v5p:2x2x2 or v6e:4x4, or of GPUs ({', '.join(GPUS)}), such as h100:8"
        ) from error


def _gpus(name: str) -> Sequence[jax.Device]:
    kind, _, sizes = name.partition(":")
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)?", sizes or "1"):
        raise ConfigError(
            f"--topology={name}: use {kind} for one, {kind}:8 for a machine of eight, or"
            f" {kind}:4x8 for four such"
        )
    if not any(map(_is_installed, CUDA_PLUGINS)):
        raise ConfigError(
            "compiling for NVIDIA GPUs needs JAX's CUDA plugin, which is not installed here; run"
            " pip install -e '.[cuda]' (no GPU is needed)"
        )
    machines, _, each = (sizes or "1").rpartition("x")
    shape: dict[str, Any] = dict(
        topology=f"1x{machines or 1}x{each}", target_config=describe(GPUS[kind])
    )
    return topologies.get_topology_desc("", platform="cuda", **shape).devices


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def describe(gpu: Gpu) -> str:
    """A GPU as the text of a GpuTargetConfigProto.

    Args:
        gpu: of GPUS.
    """
    major, minor = gpu.capability
    shared, in_block = gpu.shared
    device = dict(
        threads_per_block_limit=1024,
        threads_per_warp=32,
        threads_per_core_limit=2048,
        block_dim_limit_x=2**31 - 1,
        block_dim_limit_y=65535,
        block_dim_limit_z=65535,
        registers_per_core_limit=65536,
        registers_per_block_limit=65536,
        shared_memory_per_block=49152,
        shared_memory_per_block_optin=in_block,
        shared_memory_per_core=shared,
        core_count=gpu.processors,
        fpus_per_core=gpu.lanes,
        clock_rate_ghz=gpu.gigahertz,
        device_memory_size=gpu.memory,
        memory_bandwidth=gpu.bandwidth,
        l2_cache_size=gpu.cache,
    )
    lines = [f"  {field}: {value}" for field, value in device.items()]
    lines += [f'  {field}: "{value}"' for field, value in VERSIONS.items()]
    accelerated = " feature_extension: ACCELERATED_FEATURES" if major >= 9 else ""
    lines.append(f"  cuda_compute_capability {{ major: {major} minor: {minor}{accelerated} }}")
    version = dict(
        zip(("major", "minor", "patch"), VERSIONS["dnn_version"].split("."), strict=True)
    )
    return "\n".join(
        [
            "gpu_device_info {",
            *lines,
            f'  name: "{gpu.name}"',
            "}",
            'platform_name: "CUDA"',
            "dnn_version_info {",
            *(f"  {part}: {number}" for part, number in version.items()),
            "}",
            f'device_description_str: "{gpu.name}"',
        ]
    )
