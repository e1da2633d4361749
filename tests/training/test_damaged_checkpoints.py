"""A run with damaged checkpoints goes on from the newest whole one, or says that there is none."""

import gc
import json

import jax
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.checkpoints import damage
from vlmo_jax.checkpoints.saved_params import load_params
from vlmo_jax.checkpoints.store import Checkpoints
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.training import program as programs

MESH = tiny.mesh_of((1, 1, 1))


@pytest.fixture(scope="module")
def program():
    return tiny.program(tiny.config(), MESH)


def save(workdir, program, steps):
    """Checkpoints of random states, which come back as numpy by step."""
    states, meta = {}, {"config": json.loads(program.config.to_json())}
    checkpoints = Checkpoints(workdir / "checkpoints", keep_last=len(steps))
    for step in steps:
        rng = np.random.default_rng(step)
        states[step] = jax.tree.map(
            lambda x, rng=rng: rng.normal(size=x.shape).astype(x.dtype), program.abstract_state
        ).replace(step=np.int32(step))
        checkpoints.save(jax.tree.map(jax.numpy.asarray, states[step]), meta)
    checkpoints.close()
    return states


def start(workdir, program):
    checkpoints = Checkpoints(workdir / "checkpoints", keep_last=3)
    try:
        with jax.set_mesh(MESH):
            state, origin = programs.initial_state(program, checkpoints)
        return jax.device_get(state), origin
    finally:
        checkpoints.close()


def values_of(workdir, step, item):
    """The files that hold the arrays of an item; how many there are is a matter of timing."""
    folder = workdir / "checkpoints" / str(step) / item
    return [path for path in folder.rglob("d/*") if path.is_file()]


def flip_bits(workdir, step, item):
    """In the middle of every file of values."""
    for file in values_of(workdir, step, item):
        values = bytearray(file.read_bytes())
        values[len(values) // 2] ^= 16
        file.write_bytes(values)


def test_the_newest_whole_one_is_used_and_damaged_ones_are_set_aside(tmp_path, program, capsys):
    states = save(tmp_path, program, (3, 5, 7))
    flip_bits(tmp_path, 7, "params")
    flip_bits(tmp_path, 5, "optimizer")
    state, origin = start(tmp_path, program)
    assert origin == f"step 3 of {tmp_path}/checkpoints"
    jax.tree.map(np.testing.assert_array_equal, state, states[3])
    kept = {path.name for path in (tmp_path / "damaged_checkpoints").iterdir()}
    assert kept == {"5", "7"} and not (tmp_path / "checkpoints" / "7").exists()
    warnings = capsys.readouterr().out.splitlines()
    assert len(warnings) == 2
    assert f"checkpoint {tmp_path}/checkpoints/7 is damaged: " in warnings[0]
    assert warnings[1].endswith(f"It was moved to {tmp_path}/damaged_checkpoints/5")


def test_a_cut_file_takes_one_line(tmp_path, program, capsys, monkeypatch):
    complaints = []
    monkeypatch.setattr("sys.unraisablehook", complaints.append)
    save(tmp_path, program, (3, 5))
    for file in values_of(tmp_path, 5, "params"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    _, origin = start(tmp_path, program)
    gc.collect()
    assert origin.startswith("step 3 of") and not complaints
    [line] = capsys.readouterr().out.splitlines()
    assert "checkpoints/5 is damaged: " in line and "in OCDBT database at local file" in line, line


def test_an_array_that_changed_is_named(tmp_path, program, capsys):
    save(tmp_path, program, (3, 5))
    file = tmp_path / "checkpoints" / "5" / "meta" / "metadata"
    meta = json.loads(file.read_text())
    digests = meta["digests"]["params"]
    digests["itm_head/kernel"] = f"{int(digests['itm_head/kernel'], 16) ^ 1:08x}"
    del meta["sha256"]
    file.write_text(json.dumps({**meta, "sha256": damage._fingerprint(meta)}))
    _, origin = start(tmp_path, program)
    [line] = capsys.readouterr().out.splitlines()
    assert origin.startswith("step 3 of")
    assert "checkpoints/5 is damaged: params/itm_head/kernel changed since the save; copy" in line


def test_a_run_without_a_whole_checkpoint_does_not_start_anew(tmp_path, program):
    save(tmp_path, program, (3,))
    (tmp_path / "checkpoints" / "3" / "meta" / "metadata").write_text("{")
    for _ in range(2):
        with pytest.raises(ConfigError, match="no whole checkpoint left, and .* has 1 that are"):
            start(tmp_path, program)


@pytest.mark.parametrize("name", ["a[1]b", "what?", "*", "[", "x]y"])
def test_folders_whose_names_are_patterns_are_like_others(tmp_path, program, name):
    (tmp_path / "a1b").mkdir()
    states = save(tmp_path / name, program, (3,))
    state, _ = start(tmp_path / name, program)
    jax.tree.map(np.testing.assert_array_equal, state, states[3])
    params, step, _ = load_params(tmp_path / name, program.abstract_state.params)
    assert step == 3
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), states[3].params)
