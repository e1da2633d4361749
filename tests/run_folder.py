"""What a run has left in its work folder."""

import json

import jax
import orbax.checkpoint as ocp


def lines(workdir):
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


COSTS = {
    f"train/{name}"
    for name in (
        "samples_per_second",
        "data_wait",
        "host_gib",
        "first_step_seconds",
        "save_seconds",
    )
}


def losses(workdir):
    """step -> what was measured of the training at that step, apart from costs; every step stands
    there once.
    """
    found = {}
    for line in lines(workdir):
        values = {name: value for name, value in line.items() if name.startswith("train/")}
        if values:
            assert line["step"] not in found
            found[line["step"]] = {
                name: value for name, value in values.items() if name not in COSTS
            }
    return found


def saved_state(workdir, step):
    """All arrays of a checkpoint, by item, as numpy."""
    read = ocp.StandardCheckpointer().restore
    folder = workdir / "checkpoints" / str(step)
    return jax.device_get({item: read(folder / item) for item in ("params", "optimizer")})


def steps_saved(workdir):
    folder = workdir / "checkpoints"
    return (
        sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        if folder.is_dir()
        else []
    )
