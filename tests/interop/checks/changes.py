"""Runs a check with some arrays changed and tells what it notices."""

import contextlib
import copy
import io

import jax
import numpy as np

from vlmo_jax.interop import check as checking


def failures(arrays, info, changed=None):
    """Names of what does not hold when arrays of a fixture are replaced."""
    report, lines = checking.Report(), io.StringIO()
    with jax.default_matmul_precision("highest"), contextlib.redirect_stdout(lines):
        checking.CHECKS[info["kind"]]({**arrays, **(changed or {})}, info, report)
    lines = lines.getvalue().splitlines()
    failed = {
        line.split("  ")[-1] if "names differ" not in line else line
        for line in lines
        if line.startswith("NOT OK")
    }
    assert lines and len(failed) == report.failed
    return failed


def moved(array):
    """The array with one entry, its largest, changed a little (or by one, for integers)."""
    changed = np.array(array)
    place = np.unravel_index(np.abs(changed).argmax(), changed.shape)
    changed[place] = (
        changed[place] + 1 if changed.dtype.kind in "iu" else changed[place] * 1.01 + 1e-3
    )
    return changed


def changed_at(info, *path, value):
    """The JSON's values with another one at a path."""
    info = copy.deepcopy(info)
    part = info
    for key in path[:-1]:
        part = part[key]
    assert part[path[-1]] != value
    part[path[-1]] = value
    return info
