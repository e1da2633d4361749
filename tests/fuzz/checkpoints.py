"""Checkpoint files damaged at random: restored bitwise all the same, or named as damaged."""

import functools
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np

from tests.fuzz.case import Case, WrongError
from vlmo_jax.checkpoints.saved_params import load_params
from vlmo_jax.checkpoints.state import TrainState
from vlmo_jax.checkpoints.store import Checkpoints

META = {"config": {"steps": 5, "model": {"kind": "vlmo"}}, "preprocessing": {"mean": [0.5] * 3}}
STEP = 5


def state_of(seed):
    """A small state of random values, as numpy."""
    rng = np.random.default_rng(seed)
    tree = lambda: {
        "transformer": {"kernel": rng.normal(size=(3, 8, 16)).astype(np.float32)},
        "head": {"bias": rng.normal(size=(7,)).astype(np.float32), "scale": np.float32([2])},
    }
    moments = {"count": np.int32([STEP]), "mean": tree(), "variance": tree()}
    return TrainState(np.int32(STEP), tree(), moments, {"averaged_params": tree()})


@functools.cache
def saved():
    """The folder of a saved state, kept until the process ends, and the state."""
    folder = tempfile.TemporaryDirectory()
    state = state_of(0)
    checkpoints = Checkpoints(Path(folder.name) / "checkpoints", keep_last=1)
    checkpoints.save(jax.tree.map(jax.numpy.asarray, state), META)
    checkpoints.close()
    return folder, state


def abstract(tree):
    """Shapes on one device."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=here), tree)


def flip(path, rng):
    """Flips one bit."""
    values = bytearray(path.read_bytes() or b"\0")
    values[rng.integers(len(values))] ^= 1 << rng.integers(8)
    path.write_bytes(values)


def cut(path, rng):
    """Keeps the first bytes."""
    values = path.read_bytes()
    path.write_bytes(values[: rng.integers(max(len(values), 1))])


def scramble(path, rng):
    """Other bytes, as many."""
    path.write_bytes(rng.bytes(path.stat().st_size))


def swap(path, rng):
    """The bytes of a file beside it."""
    files = sorted(other for other in path.parent.iterdir() if other.is_file())
    other = files[rng.integers(len(files))]
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


DAMAGES = {
    "flip": flip,
    "cut": cut,
    "scramble": scramble,
    "swap": swap,
    "empty": lambda path, rng: path.write_bytes(b""),
    "lengthen": lambda path, rng: path.write_bytes(path.read_bytes() + rng.bytes(9)),
    "remove": lambda path, rng: path.unlink(),
    "folder": lambda path, rng: (path.unlink(), path.mkdir()),
    "remove the folder of": lambda path, rng: shutil.rmtree(path.parent),
}


def draw(rng):
    """One damage to one file of a checkpoint that is then read whole, or for its parameters."""
    source, state = saved()
    files = sorted(p.relative_to(source.name) for p in Path(source.name).rglob("*") if p.is_file())
    file, what = files[rng.integers(len(files))], list(DAMAGES)[rng.integers(len(DAMAGES))]
    whole = bool(rng.integers(2))

    def run(folder):
        workdir = folder / "run"
        shutil.copytree(source.name, workdir)
        DAMAGES[what](workdir / file, rng)
        if whole:
            found, wanted = restore(workdir, state), state
        else:
            found, wanted = load_params(workdir, abstract(state.params))[0], state.params
        same = jax.tree.map(np.array_equal, jax.device_get(found), wanted)
        if not all(jax.tree.leaves(same)):
            raise WrongError("other values were read")

    return Case(f"checkpoint: {what} {file}, read {'whole' if whole else 'parameters'}", run)


def restore(workdir, state):
    """The state of the step, whole."""
    checkpoints = Checkpoints(workdir / "checkpoints", keep_last=1)
    try:
        if checkpoints.latest_step() is None:
            raise WrongError("the step is not seen any more")
        assert checkpoints.meta(STEP)["preprocessing"] == META["preprocessing"]
        return checkpoints.restore(STEP, abstract(state))
    finally:
        checkpoints.close()
