"""The memory that there is."""

import os
from pathlib import Path

import jax

# What a container may take at most: version 2 of Linux's control groups, then version 1.
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def host_bytes(limits: tuple[str, ...] = CGROUP_LIMITS) -> int:
    """Memory of this machine, or of the container that this process is in.

    Args:
        limits: files that hold a limit in bytes, or a word where there is none.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in map(Path, limits):
        try:
            total = min(total, int(file.read_text()))
        except (OSError, ValueError):  # no container, or no limit
            continue
    return total


def device_bytes() -> int:
    """Memory of a device of this process; CPU devices share the machine's."""
    devices = jax.local_devices()
    statistics = devices[0].memory_stats() if devices[0].platform != "cpu" else None
    if statistics and statistics.get("bytes_limit"):
        return statistics["bytes_limit"]
    return host_bytes() // len(devices)
