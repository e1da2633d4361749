"""Checkpoints: saved from one mesh, restored on another, kept by rule, and refused by name."""

import json
import shutil

import jax
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.checkpoints.saved_params import find_checkpoint, load_params
from vlmo_jax.checkpoints.store import Checkpoints, save_params
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.training import program as programs

META = {"config": {"steps": 3}, "preprocessing": {"mean": [0.5, 0.5, 0.5]}}


def program_on(shape, **fields):
    mesh = tiny.mesh_of(shape)
    return mesh, tiny.program(tiny.config(**fields), mesh)


def state_at(step, program, seed=0):
    """A state whose every leaf is random, moments too."""
    rng = np.random.default_rng(seed)
    state = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(x.dtype), program.abstract_state
    ).replace(step=np.int32(step))
    return jax.tree.map(jax.device_put, state, program.shardings)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A work folder with a state that was saved on eight devices, and the state as numpy."""
    workdir = tmp_path_factory.mktemp("run")
    mesh, program = program_on((2, 2, 2))
    state = state_at(5, program)
    checkpoints = Checkpoints(workdir / "checkpoints", keep_last=2)
    checkpoints.save(state, {**META, "config": json.loads(program.config.to_json())})
    checkpoints.close()
    return workdir, jax.device_get(state)


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 1, 1), (2, 1, 1), (1, 2, 2)])
def test_restores_bitwise_on_another_mesh(saved, shape):
    workdir, expected = saved
    mesh, program = program_on(shape)
    checkpoints = Checkpoints(workdir / "checkpoints", keep_last=2)
    assert checkpoints.latest_step() == 5
    state = checkpoints.restore(5, program.abstract_state)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), expected)
    laid = jax.tree.map(
        lambda x, sharding: x.sharding.is_equivalent_to(sharding, x.ndim), state, program.shardings
    )
    assert all(jax.tree.leaves(laid))
    assert checkpoints.meta(5)["preprocessing"] == META["preprocessing"]
    checkpoints.close()


@pytest.mark.parametrize("place", [".", "checkpoints", "checkpoints/5"])
def test_parameters_alone_are_loaded_from_any_path_of_the_run(saved, place, caplog):
    workdir, expected = saved
    _, program = program_on((1, 2, 1))
    with caplog.at_level("WARNING"):
        params, step, meta = load_params(workdir / place, program.abstract_state.params)
    assert not caplog.records
    assert step == 5 and meta["preprocessing"] == META["preprocessing"]
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), expected.params)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            dict(width=32),
            (
                r"parameters differ.*: image_embedding/class_token: \(16,\) in the checkpoint,"
                r" \(32,\) in the model"
            ),
        ),
        (
            dict(position="absolute"),
            "image_embedding/position: not there in the checkpoint, .5, 16. in the model",
        ),
        (
            dict(vocab_size=50),
            (
                r"\(3 parameters differ\): mlm_head/decoder/bias: \(48,\) in the checkpoint,"
                r" \(50,\) in the model"
            ),
        ),
    ],
)
def test_parameters_of_another_model_are_refused(saved, change, message):
    workdir, _ = saved
    _, program = program_on((1, 1, 1), model=change)
    with pytest.raises(
        ValueError,
        match=f"checkpoint {workdir}/checkpoints/5 does not fit config.model .*{message}",
    ):
        load_params(workdir, program.abstract_state.params)


def test_no_checkpoint_is_said_so(tmp_path):
    (tmp_path / "checkpoints" / "12.orbax-checkpoint-tmp").mkdir(
        parents=True
    )  # what a kill leaves of a save
    (tmp_path / "checkpoints" / "12.orbax-checkpoint-tmp" / "params").mkdir()
    with pytest.raises(FileNotFoundError, match=f"no checkpoint in {tmp_path}; give a work folder"):
        find_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint in .*nowhere"):
        find_checkpoint(tmp_path / "nowhere")


def steps_in(directory):
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def test_keeps_the_last_and_the_best_also_over_a_restart(tmp_path):
    _, program = program_on((1, 1, 1))
    for steps in ((1, 2, 3, 4), (5, 6, 7)):
        checkpoints = Checkpoints(tmp_path, keep_last=2, best_metric="eval/recall")
        for step in steps:
            recall = {2: 0.9, 6: 0.3}.get(step, 0.1)
            metrics = {"eval/recall": recall, "eval/other": 1.0} if step not in (3, 4) else None
            checkpoints.save(state_at(step, program), META, metrics)
        checkpoints.close()
    assert steps_in(tmp_path) == [2, 6, 7]


def test_the_best_by_the_last_part_of_a_name_is_the_best_mean_of_the_splits(tmp_path):
    _, program = program_on((1, 1, 1))
    checkpoints = Checkpoints(tmp_path, keep_last=1, best_metric="recall")
    for step, (a, b) in enumerate([(0.9, 0.1), (0.6, 0.6), (0.2, 0.2)], start=1):
        checkpoints.save(
            state_at(step, program),
            META,
            {"eval/a/recall": a, "eval/b/recall": b, "eval/b/rank": 100.0},
        )
    checkpoints.close()
    assert steps_in(tmp_path) == [2, 3]


def test_without_a_best_metric_the_last_are_kept(tmp_path):
    _, program = program_on((1, 1, 1))
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    for step in (1, 2, 3):
        checkpoints.save(state_at(step, program), META, {"eval/recall": 1.0})
    checkpoints.close()
    assert steps_in(tmp_path) == [3]


def test_a_step_that_is_saved_already_is_left_as_it_is(tmp_path):
    _, program = program_on((1, 1, 1))
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    checkpoints.save(state_at(3, program, seed=1), META)
    checkpoints.save(state_at(3, program, seed=2), META)
    expected = jax.device_get(state_at(3, program, seed=1))
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(checkpoints.restore(3, program.abstract_state)),
        expected,
    )
    checkpoints.close()


def test_a_save_under_way_does_not_see_the_next_steps(tmp_path):
    _, program = program_on((1, 1, 1))
    state = state_at(1, program)
    expected = jax.device_get(state)
    advance = jax.jit(
        lambda state: jax.tree.map(lambda x: x + 1, state),
        donate_argnums=0,
        out_shardings=program.shardings,
    )
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    checkpoints.save(state, META)
    for _ in range(5):
        state = advance(state)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(checkpoints.restore(1, program.abstract_state)),
        expected,
    )
    checkpoints.close()


def start(workdir, shape=(1, 1, 1), **fields):
    """The initial state of a run in `workdir`, and where it came from."""
    mesh, program = program_on(shape, **fields)
    checkpoints = Checkpoints(workdir / "checkpoints", keep_last=2)
    with jax.set_mesh(mesh):
        state, origin = programs.initial_state(program, checkpoints)
    checkpoints.close()
    return jax.device_get(state), origin


def test_a_run_starts_from_its_own_checkpoint(saved):
    state, origin = start(
        saved[0], (2, 1, 1), init_from="/nowhere", mode="eval", log_every=3, accumulation=2
    )
    jax.tree.map(np.testing.assert_array_equal, state, saved[1])
    assert origin == f"step 5 of {saved[0]}/checkpoints"


def test_init_from_takes_the_parameters_alone(saved, tmp_path):
    state, origin = start(tmp_path, init_from=str(saved[0]), batch_size=16, steps=7)
    jax.tree.map(np.testing.assert_array_equal, state.params, saved[1].params)
    assert state.step == 0 and not any(np.any(x) for x in jax.tree.leaves(state.opt_state))
    assert (
        origin.startswith(f"{saved[0]}/checkpoints/5\n  54 parameters as they were: ")
        and "\n  0 fresh from the seed: none" in origin
    )
    with pytest.raises(ConfigError, match="config.init_from='/nowhere': no checkpoint in /nowhere"):
        start(tmp_path, init_from="/nowhere")


def test_otherwise_a_run_starts_from_the_seed(tmp_path):
    state, origin = start(tmp_path)
    assert origin == "random parameters, seed 0" and state.step == 0
    assert 0.01 < state.params["pooler"]["dense"]["kernel"].std() < 0.02


def test_a_run_with_another_config_is_refused(saved):
    with pytest.raises(
        ConfigError,
        match=(
            r"checkpoints holds a run with another config: config.batch_size was 8 and is 16,"
            r" config.model.depth was 3 and is 4, "
            r"config.optimizer.warmup_steps was 2 and is 3; use another --workdir, or give the old"
            r" values to go on"
        ),
    ):
        start(saved[0], batch_size=16, model=dict(depth=4), optimizer=dict(warmup_steps=3))


def test_parameters_alone_are_no_run_to_go_on_with(tmp_path):
    _, program = program_on((1, 1, 1))
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), program.abstract_state.params)
    save_params(tmp_path / "checkpoints", params, {"config": {"model": {}}})
    message = (
        f"{tmp_path}/checkpoints/0 holds parameters alone.*--config.init_from={tmp_path} and"
        " another --workdir"
    )
    with pytest.raises(ConfigError, match=message):
        start(tmp_path)


def test_half_a_save_is_cleaned_up(saved, tmp_path):
    shutil.copytree(saved[0] / "checkpoints", tmp_path / "checkpoints")
    half = tmp_path / "checkpoints" / "9.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "5" / "params", half / "params")
    state, _ = start(tmp_path)
    assert state.step == 5 and not half.exists()
