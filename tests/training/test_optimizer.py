import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from tests.paths import DATA
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.training.optimizer import (
    adamw,
    check_optimizer,
    learning_rate_schedule,
    make_optimizer,
    match_rules,
)

TOY = np.load(DATA / "vlmo" / "adamw_toy.npz")
PARAMS = {
    "dense": {"kernel": np.ones((2, 3), np.float32), "bias": np.ones(3, np.float32)},
    "scale": np.float32(2),
}
FIELDS = dict(common.optimizer(learning_rate=0.1, warmup_steps=2), total_steps=10)


def run(optimizer, params, gradients):
    state, path = optimizer.init(params), []
    for gradient in gradients:
        updates, state = jax.jit(optimizer.update)(gradient, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


def test_adamw_is_that_of_transformers_and_not_of_torch():
    constant = lambda step: jnp.float32(0.1)
    optimizer = adamw(
        constant, betas=(0.9, 0.98), epsilon=1e-8, decay=jnp.float32(0.2), multiplier=jnp.float32(1)
    )
    found = np.stack(run(optimizer, jnp.asarray(TOY["in/init"]), jnp.asarray(TOY["in/grads"])))
    np.testing.assert_allclose(found, TOY["out/transformers"], atol=1e-6)
    assert np.abs(found - TOY["out/torch_for_contrast"]).max() > 1e-5


def test_moments_in_bfloat16_make_nearly_the_same_steps():
    rng = np.random.default_rng(0)
    gradients = (0.1 + rng.normal(size=(60, 400))).astype(np.float32)
    ways = {}
    for wanted in (False, True):
        fields = {**FIELDS, "schedule": "constant", "warmup_steps": 0, "no_decay": ()}
        optimizer = make_optimizer(
            {"x": gradients[0]}, **{**fields, "bfloat16_moments": wanted}
        ).transform
        state = optimizer.init({"x": jnp.zeros(400)})
        for moments in (state.mean, state.variance):
            assert moments["x"].dtype == (jnp.bfloat16 if wanted else jnp.float32)
        ways[wanted] = run(optimizer, {"x": jnp.zeros(400)}, [{"x": g} for g in gradients])[-1]["x"]
    assert ways[True].dtype == jnp.float32 and (ways[True] != ways[False]).mean() > 0.9
    assert np.linalg.norm(ways[True] - ways[False]) < 0.01 * np.linalg.norm(ways[False])


def test_moments_that_change_too_slowly_for_bfloat16():
    fields = common.optimizer(learning_rate=0.1, warmup_steps=2)
    fields.bfloat16_moments = True
    check_optimizer(fields)
    fields.betas = (0.9, 0.999)
    with pytest.raises(ConfigError, match=r"betas=\(0.9, 0.999\), which change a moment"):
        check_optimizer(fields)


def test_decay_and_rates_go_by_path():
    fields = {
        **FIELDS,
        "schedule": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.5,
        "no_decay": (".*bias",),
        "rate_multipliers": (("dense/.*", 3.0),),
    }
    optimizer = make_optimizer(PARAMS, **fields).transform
    moved = run(optimizer, PARAMS, [jax.tree.map(np.zeros_like, PARAMS)])[0]
    np.testing.assert_allclose(moved["dense"]["kernel"], 1 - 3 * 0.1 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(moved["dense"]["bias"], 1)
    np.testing.assert_allclose(moved["scale"], 2 - 0.1 * 0.5 * 2, rtol=1e-6)


@pytest.mark.parametrize("clip_norm, length", [(0.0, 10.0), (20.0, 10.0), (5.0, 5.0)])
def test_clip_norm(clip_norm, length):
    fields = {**FIELDS, "no_decay": (), "clip_norm": clip_norm}
    optimizer = make_optimizer({"x": np.zeros(2)}, **fields).transform
    state = optimizer.init({"x": np.zeros(2)})
    _, state = optimizer.update({"x": jnp.asarray([6.0, 8.0])}, state, {"x": np.zeros(2)})
    first = state[1] if clip_norm else state
    np.testing.assert_allclose(np.linalg.norm(first.mean["x"]) / 0.1, length, rtol=1e-6)


def test_parameters_stay_within_their_limits():
    fields = {**FIELDS, "schedule": "constant", "warmup_steps": 0, "no_decay": (".*",)}
    fields |= {"weight_decay": 0.0, "limits": (("scale", (1.8, 2.1)),)}
    made = make_optimizer(PARAMS, **fields)
    up = jax.tree.map(lambda x: -np.ones_like(x), PARAMS)
    path = run(made.transform, PARAMS, [up] * 4 + [jax.tree.map(np.negative, up)] * 12)
    scales = np.array([float(step["scale"]) for step in path])
    free = np.array([float(step["dense"]["bias"][0]) for step in path])
    assert scales[:4].max() == np.float32(2.1) and free[:4].max() > 1.3
    # It comes back at once when the gradient turns, as nothing was stored up beyond the bound.
    assert scales.min() == np.float32(1.8) and free.min() < 1
    frozen = make_optimizer(PARAMS, **fields | {"frozen": ("dense/.*",)})
    moved = run(frozen.transform, frozen.trainable(PARAMS), [frozen.trainable(up)] * 4)
    assert float(jax.tree.leaves(moved[-1])[0]) == np.float32(2.1)


def test_limits_that_make_no_sense():
    with pytest.raises(ConfigError, match="least 3.0 above most 1.0"):
        make_optimizer(PARAMS, **FIELDS | {"no_decay": ()}, limits=(("scale", (3.0, 1.0)),))
    with pytest.raises(ConfigError, match="config.optimizer.limits: 'no' matches no parameter"):
        make_optimizer(PARAMS, **FIELDS | {"no_decay": ()}, limits=(("no", (1.0, 2.0)),))


@pytest.mark.parametrize(
    "name, at",
    [
        ("polynomial", {0: 0, 1: 0.05, 2: 0.1, 7: 0.06, 12: 0.02, 20: 0.02}),
        ("cosine", {0: 0, 1: 0.05, 2: 0.1, 7: 0.06, 12: 0.02}),
        ("constant", {0: 0, 1: 0.05, 2: 0.1, 7: 0.1, 12: 0.1}),
    ],
)
def test_schedules(name, at):
    schedule = learning_rate_schedule(name, peak=0.1, warmup_steps=2, total_steps=12, end=0.02)
    np.testing.assert_allclose([float(schedule(step)) for step in at], list(at.values()), atol=1e-7)


def test_first_step_has_rate_zero_and_a_power_bends_the_line():
    schedule = learning_rate_schedule(
        "polynomial", peak=1.0, warmup_steps=0, total_steps=10, power=2.0
    )
    assert float(schedule(0)) == 1.0  # without a warm-up there is none
    np.testing.assert_allclose(float(schedule(5)), 0.25)
    assert (
        float(learning_rate_schedule("polynomial", peak=1.0, warmup_steps=1, total_steps=10)(0))
        == 0.0
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (
            dict(schedule="linear"),
            (
                "config.optimizer.schedule='linear' is not allowed; use one of polynomial, cosine,"
                " constant"
            ),
        ),
        (
            dict(warmup_steps=10),
            "config.optimizer.warmup_steps=10 must be at least 0 and less than config.steps=10",
        ),
        (
            dict(no_decay=("dense/weight",)),
            "config.optimizer.no_decay: 'dense/weight' matches no parameter .*dense/kernel",
        ),
        (
            dict(no_decay=(".*bias", "dense/bias")),
            "config.optimizer.no_decay: 'dense/bias' matches no parameter .*or none that earlier",
        ),
        (
            dict(no_decay=(), rate_multipliers=(("dens", 2.0),)),
            "config.optimizer.rate_multipliers: 'dens' matches no parameter",
        ),
    ],
)
def test_refusals(change, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(PARAMS, **{**FIELDS, "no_decay": (".*bias",), **change})


def test_rules_must_cover_everything_and_the_first_wins(caplog):
    with pytest.raises(
        ValueError, match="config.freeze: no rule covers parameter scale; end the rules with '.[*]'"
    ):
        match_rules(PARAMS, [("dense/.*", 1)], key="freeze")
    with caplog.at_level("INFO"):
        found = match_rules(PARAMS, [("dense/bias", 1), ("dense/.*", 2), (".*", 3)], key="freeze")
    assert found == {"dense": {"kernel": 2, "bias": 1}, "scale": 3}
    assert "config.freeze: dense/.* -> 2 (1 parameters)" in caplog.text
