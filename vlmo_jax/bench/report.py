"""A result for people and for files."""

import json
import pathlib
import platform
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict


class Report(NamedTuple):
    """One benchmark's result.

    Attributes:
        title: what was measured, on what.
        rows: (label, text) pairs.
        record: the same as plain JSON values with full precision.
    """

    title: str
    rows: list[tuple[str, str]]
    record: dict[str, Any]


def format_report(report: Report) -> str:
    """The lines to print."""
    width = max(len(label) for label, _ in report.rows) + 2
    return "\n".join([report.title, *(f"  {label:<{width}}{text}" for label, text in report.rows)])


def append_record(report: Report, path: pathlib.Path) -> None:
    """Adds the record to a file as one line of JSON."""
    with path.open("a") as file:
        file.write(json.dumps(report.record) + "\n")


def setting(config: ConfigDict, dtype: str) -> dict[str, Any]:
    """What a record says about the recipe and the machine."""
    device = jax.devices()[0]
    return {
        "batch_size": config.batch_size,
        "accumulation": config.accumulation,
        "dtype": dtype,
        "model": config.model.to_dict(),
        "mesh": config.mesh.to_dict(),
        "platform": device.platform,
        "device_kind": device.device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def quantity(value: float, unit: str) -> str:
    """A number with a metric prefix: 6.633e11, "FLOP" is "663.3 GFLOP"."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.4g} {prefix}{unit}"
    return f"{value:.4g} {unit}"


def gibibytes(count: int) -> str:
    """A number of bytes in GiB."""
    return f"{count / 2**30:.2f} GiB"
