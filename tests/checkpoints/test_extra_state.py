"""State beside parameters and moments, and checkpoints of version 0.1, which had it among these."""

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests import tiny
from vlmo_jax.checkpoints.saved_params import SavedParams, load_params
from vlmo_jax.checkpoints.state import AVERAGED, TrainState
from vlmo_jax.checkpoints.store import Checkpoints, save_params
from vlmo_jax.training.optimizer import AdamWState

META = {"config": {"model": {"kind": "vlmo"}}}
OLD_META = {"config": {"kind": "images", "steps": 7, "model": {"width": 4}, "optimizer": {}}}


def draw(seed):
    """Parameters of a made-up model."""
    rng = np.random.default_rng(seed)
    return {
        "head": {"kernel": rng.normal(size=(8, 4)).astype(np.float32)},
        "norm": {"scale": rng.normal(size=8).astype(np.float32)},
    }


MOMENTS = AdamWState(np.asarray(5), draw(4), draw(5))
MOMENTS_AND_CLIPPING = (optax.EmptyState(), MOMENTS)
both_optimizers = pytest.mark.parametrize(
    "opt_state", [MOMENTS, MOMENTS_AND_CLIPPING], ids=["plain", "clipped"]
)


def state_of(extra, opt_state=MOMENTS):
    return TrainState(np.asarray(5), draw(0), opt_state, extra)


def abstract_of(state, shape=(1, 1, 1)):
    sharding = NamedSharding(tiny.mesh_of(shape), PartitionSpec("data"))
    everywhere = NamedSharding(tiny.mesh_of(shape), PartitionSpec())
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            np.shape(x), x.dtype, sharding=sharding if np.ndim(x) else everywhere
        ),
        state,
    )


def save(directory, state, meta=META):
    checkpoints = Checkpoints(directory, keep_last=2)
    checkpoints.save(state, meta)
    checkpoints.close()


def restore(directory, abstract):
    checkpoints = Checkpoints(directory, keep_last=2)
    try:
        return checkpoints.restore(5, abstract)
    finally:
        checkpoints.close()


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), expected)


def save_as_version_0_1(directory, state):
    optimizer = {"step": state.step, "opt_state": state.opt_state, "extra": state.extra}
    items = ("params", "optimizer", "meta")
    with ocp.CheckpointManager(directory, item_names=items) as manager:
        manager.save(
            5,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(state.params),
                optimizer=ocp.args.StandardSave(optimizer),
                meta=ocp.args.JsonSave(OLD_META),
            ),
        )


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 2, 1)])
def test_extra_state_is_restored_on_any_mesh(tmp_path, shape):
    queue = {"image": np.arange(16, dtype=np.float32).reshape(8, 2), "next": np.asarray(3)}
    state = state_of({AVERAGED: draw(2), "queue": queue})
    save(tmp_path, state)
    abstract = abstract_of(state, shape)
    restored = restore(tmp_path, abstract)
    assert_same(restored, state)
    kernel = restored.extra[AVERAGED]["head"]["kernel"]
    assert kernel.sharding == abstract.extra[AVERAGED]["head"]["kernel"].sharding


@both_optimizers
def test_a_state_without_extra_has_no_item_for_it(tmp_path, opt_state):
    state = state_of({}, opt_state)
    save(tmp_path, state)
    assert not (tmp_path / "5" / "extra").exists()
    assert_same(restore(tmp_path, abstract_of(state)), state)


@both_optimizers
@pytest.mark.parametrize("frozen", [{}, {"tokenizer": draw(3)}], ids=["nothing", "tokenizer"])
def test_a_checkpoint_of_version_0_1_is_restored_without_its_frozen_tokenizer(
    tmp_path, opt_state, frozen
):
    old = state_of(frozen, opt_state)
    save_as_version_0_1(tmp_path, old)
    expected = old.replace(extra={})
    assert_same(restore(tmp_path, abstract_of(expected, (2, 1, 1))), expected)


def test_a_run_goes_on_beside_checkpoints_of_version_0_1(tmp_path):
    """The manager that has restored an old one saves, and restores, those of today."""
    old = state_of({"tokenizer": draw(3)})
    save_as_version_0_1(tmp_path, old)
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    state = checkpoints.restore(5, abstract_of(old.replace(extra={})))
    later = jax.device_get(state.replace(step=np.asarray(6)))
    checkpoints.save(later, META)
    assert_same(checkpoints.restore(6, abstract_of(later)), later)
    assert_same(checkpoints.restore(5, abstract_of(state)), old.replace(extra={}))
    checkpoints.close()


def test_moments_that_a_checkpoint_lacks_are_not_made_up(tmp_path):
    old = state_of({})
    moments = {"mean": old.opt_state.mean, "variance": old.opt_state.variance}
    save_as_version_0_1(tmp_path, old.replace(opt_state=moments))
    with pytest.raises(ValueError, match="moments of other parameters: opt_state/count"):
        restore(tmp_path, abstract_of(old))


def test_extra_state_that_a_checkpoint_lacks_is_refused(tmp_path):
    save(tmp_path, state_of({}))
    with pytest.raises(
        ValueError, match=f"{tmp_path}/5 has nothing of averaged_params; a run that"
    ):
        restore(tmp_path, abstract_of(state_of({AVERAGED: draw(2)})))


def test_configs_of_version_0_1_are_read_in_the_form_of_today(tmp_path):
    save_as_version_0_1(tmp_path, state_of({}))
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    for meta in (checkpoints.meta(5), SavedParams(tmp_path).meta):
        assert meta["config"] == {
            "steps": 7,
            "model": {"kind": "beit", "width": 4},
            "data": {"kind": "masked_images"},
            "task": {"kind": "image_pretrain"},
            "optimizer": {"layer_decay": 1.0, "ema_decay": 0.0},
        }
    checkpoints.close()


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 1)])
def test_averaged_parameters_are_loaded_when_asked_for(tmp_path, shape):
    state = state_of({AVERAGED: draw(2), "other": {"scale": np.zeros(2)}})
    save(tmp_path, state)
    wanted = abstract_of(state, shape).params
    for averaged, expected in ((False, state.params), (True, state.extra[AVERAGED])):
        params, step, meta = load_params(tmp_path, wanted, averaged=averaged)
        assert_same(params, expected)
        assert (step, meta) == (5, META)
        saved = SavedParams(tmp_path, averaged=averaged)
        found = saved.read([("head", "kernel")])
        np.testing.assert_array_equal(found["head", "kernel"], expected["head"]["kernel"])
        assert set(saved.shapes) == {("head", "kernel"), ("norm", "scale")}


@pytest.mark.parametrize("extra", [{}, {"queue": {"next": np.asarray(3)}}], ids=["none", "other"])
def test_a_checkpoint_without_averaged_parameters_says_what_to_set(tmp_path, extra):
    save(tmp_path, state_of(extra))
    with pytest.raises(
        ValueError, match="5 has no averaged parameters.*optimizer.ema_decay"
    ) as error:
        SavedParams(tmp_path, averaged=True)
    assert "\n" not in str(error.value)


def test_a_converted_checkpoint_has_none_either(tmp_path):
    save_params(tmp_path, draw(0), META)
    with pytest.raises(ValueError, match="0 has no averaged parameters"):
        SavedParams(tmp_path, averaged=True)
