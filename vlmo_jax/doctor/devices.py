"""The accelerators, asked for in a process of its own, which may hang."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

from vlmo_jax.doctor.findings import Finding, size, wrong
from vlmo_jax.doctor.machine import NVIDIA

_ASK = """
import collections, json, jax
found = collections.Counter(
    (device.platform, device.device_kind, (device.memory_stats() or {}).get("bytes_limit", 0))
    for device in jax.local_devices()
)
print("devices", json.dumps([[*device, count] for device, count in found.items()]))
"""


def check_devices(environ: Mapping[str, str], seconds: float) -> Iterator[Finding]:
    """What JAX finds on this machine.

    Args:
        environ: environment variables for JAX.
        seconds: to wait for its answer.
    """
    # A look takes no memory away from a run.
    environ = {**environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    output, errors, status = ask([sys.executable, "-c", _ASK], environ, seconds)
    if status is None:
        yield wrong(
            "devices",
            f"no answer in {seconds:g} s",
            "another process may hold the TPU or GPU (nvidia-smi, fuser -v /dev/accel*"
            " /dev/vfio/*); on a TPU pod all hosts must ask at once; or the driver hangs, or the"
            " machine is very busy. JAX_PLATFORMS=cpu goes without",
        )
        return
    lines = [line for line in output.splitlines() if line.startswith("devices ")]
    if status or not lines:
        last = (errors.strip().splitlines() or [f"exit status {status}"])[-1]
        yield wrong("devices", "JAX cannot start", last[:300])
        return
    yield from _described(json.loads(lines[-1].removeprefix("devices ")), environ)


def _described(found: list[list], environ: Mapping[str, str]) -> Iterator[Finding]:
    for platform, kind, memory, count in found:
        text = f"{count} x {kind}" + (f", {size(memory)} each for JAX" if memory else "")
        unused = platform == "cpu" and os.path.exists(NVIDIA) and not environ.get("JAX_PLATFORMS")
        if unused:
            yield wrong("devices", text, "there is a GPU that JAX does not see: see CUDA above")
        else:
            yield Finding("devices", text)


def ask(
    command: list[str], environ: Mapping[str, str], seconds: float
) -> tuple[str, str, int | None]:
    """Runs a command for so long at most, and ends it with all its children then.

    Returns:
        Standard output, standard error and exit status; None where it did not end in time.
    """
    process = subprocess.Popen(
        command,
        env=dict(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
        return output, errors, process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        # It is not waited for: a process that hangs in a driver does not even end when killed.
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()
        return "", "", None
