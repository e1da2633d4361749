"""The machine without its accelerators: what is installed, memory, disks, limits."""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import resource
import shutil
import tempfile
from collections.abc import Iterator, Mapping

from vlmo_jax.doctor.findings import Finding, size, wrong

GIB = 2**30
PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets"),
    *("array-record", "numpy"),
)
# What JAX reaches accelerators with. Those of NVIDIA come in parts, of jaxlib's version each.
PLUGINS = (
    *("libtpu", "jax-cuda12-plugin", "jax-cuda12-pjrt", "jax-cuda13-plugin", "jax-cuda13-pjrt"),
    *("jax-rocm7-plugin", "jax-rocm7-pjrt"),
)
NVIDIA, TPUS = "/proc/driver/nvidia/version", ("/dev/accel0", "/dev/vfio/0")
SMALL_SHARED = GIB
FEW_FILES, VERY_FEW_FILES = 4096, 1024
LITTLE_MEMORY, LITTLE_DISK = 2 * GIB, 5 * GIB


def check_versions() -> Iterator[Finding]:
    """The versions of Python, of the project, and of what it runs on."""
    yield Finding("Python", f"{platform.python_version()}, {platform.machine()}")
    own = _version("vlmo-jax")
    yield Finding("vlmo_jax", own or f"not installed, in {pathlib.Path(__file__).parents[2]}")
    for package in PACKAGES:
        version = _version(package)
        if version:
            yield Finding(package, version)
        else:
            yield wrong(package, "not installed", "pip install -e . where the project lies")
    yield from _plugins()


def _plugins() -> Iterator[Finding]:
    found = {name: version for name in PLUGINS if (version := _version(name))}
    jaxlib = _version("jaxlib")
    for name, version in found.items():
        if name != "libtpu" and version != jaxlib:
            yield wrong(
                name,
                version,
                f"jaxlib is {jaxlib}: install both together, pip install -e '.[cuda]'",
            )
        else:
            yield Finding(name, version)
    if os.path.exists(NVIDIA) and not any("cuda" in name for name in found):
        yield wrong("CUDA for JAX", "not installed, and there is a GPU", "pip install -e '.[cuda]'")
    if any(map(os.path.exists, TPUS)) and "libtpu" not in found:
        yield Finding("libtpu", "not installed", "where this is a TPU: pip install -e '.[tpu]'")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_host() -> Iterator[Finding]:
    """Cores, memory, shared memory and the limit of open files."""
    yield Finding("cores", _cores())
    total, free = read_memory()
    text = f"{size(free)} free of {size(total)}"
    if free < LITTLE_MEMORY:
        yield Finding("memory", text, "the smallest recipe needs 2 GiB; end other programs")
    else:
        yield Finding("memory", text)
    yield check_shared_memory(pathlib.Path("/dev/shm"))
    yield check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE))


def _cores() -> str:
    usable, there = len(os.sched_getaffinity(0)), os.cpu_count()
    quota = _first_line("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit() and int(quota[0]) < usable * int(quota[1]):
        return f"{int(quota[0]) / int(quota[1]):.1f} of {there} (the container's share)"
    return f"{usable}" if usable == there else f"{usable} of {there}"


def read_memory() -> tuple[int, int]:
    """Bytes of memory that this process may have, and those of them that are free."""
    entries = {}
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        name, _, number = line.partition(":")
        entries[name] = int(number.split()[0]) * 1024
    total, free = entries["MemTotal"], entries["MemAvailable"]
    for limit, usage in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        most, used = _first_line(limit), _first_line(usage)
        if most.isdigit() and used.isdigit() and int(most) < total:
            total, free = int(most), min(free, int(most) - int(used))
    return total, free


def _first_line(path: str) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return pathlib.Path(path).read_text().partition("\n")[0]
    return ""


def check_shared_memory(folder: pathlib.Path) -> Finding:
    """What processes that load data hand batches over in."""
    if not folder.is_dir():
        return wrong(str(folder), "is not there", "mount a tmpfs there: data workers need it")
    usage = shutil.disk_usage(folder)
    text = f"{size(usage.free)} free of {size(usage.total)}"
    if usage.total < SMALL_SHARED:
        return wrong(
            str(folder),
            text,
            "too small for data workers, as in a container that was not told: docker run"
            " --shm-size=8g; in Kubernetes an emptyDir of medium Memory at /dev/shm; or load data"
            " with threads, --config.data.num_workers=0",
        )
    if usage.free < SMALL_SHARED // 4:
        return wrong(str(folder), text, f"full: ls -l {folder}, and remove what no process uses")
    return Finding(str(folder), text)


def check_open_files(limits: tuple[int, int]) -> Finding:
    """How many files a process may have open.

    Args:
        limits: soft and hard limit, -1 for none.
    """
    soft, hard = (number if number >= 0 else 2**62 for number in limits)
    text = "no limit" if soft == 2**62 else f"{soft:,}"
    if soft < FEW_FILES:
        raised = min(hard, 65536)
        cure = f"ulimit -n {raised}" if raised > soft else "have the hard limit raised"
        advice = f"data sets of many files need more: {cure}"
        return Finding("open files", text, advice, wrong=soft < VERY_FEW_FILES)
    return Finding("open files", text)


def check_cache(environ: Mapping[str, str]) -> Finding:
    """Where JAX keeps compiled programs."""
    given = environ.get("JAX_COMPILATION_CACHE_DIR")
    if not given:
        return Finding("compilation cache", "none (JAX_COMPILATION_CACHE_DIR is not set)")
    if "://" in given:
        return Finding("compilation cache", given)
    folder = pathlib.Path(given)
    problem = cannot_write(folder)
    if problem:
        return wrong("compilation cache", given, f"{problem}; name another folder")
    if not folder.is_dir():
        return Finding("compilation cache", f"{given}, not there yet")
    files = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return Finding("compilation cache", f"{given}, {len(files)} files, {size(sum(files))}")


def check_place(folder: pathlib.Path) -> Iterator[Finding]:
    """Whether a folder can be written, made if need be, and how much space is there."""
    problem = cannot_write(folder)
    if problem:
        yield wrong("work folder", str(folder), f"{problem}; change that, or use another --workdir")
        return
    yield Finding("work folder", str(folder) if folder.is_dir() else f"{folder}, not there yet")
    usage = shutil.disk_usage(_existing(folder))
    text = f"{size(usage.free)} free of {size(usage.total)}"
    if usage.free < LITTLE_DISK:
        advice = "a checkpoint of base takes 2.4 GiB; free some space, or use another --workdir"
        yield Finding("its disk", text, advice, wrong=usage.free < GIB // 4)
    else:
        yield Finding("its disk", text)


def cannot_write(folder: pathlib.Path) -> str:
    """Why a folder cannot be written, or made, "" if it can."""
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return ""
    except OSError as error:
        return f"{error.strerror} at {_existing(folder)}"


def _existing(folder: pathlib.Path) -> pathlib.Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))
