"""Parameters that are not finite are never saved, and no run ends well with them."""

import pytest

from tests import tiny
from vlmo_jax.checkpoints.store import NotFiniteError, save_params
from vlmo_jax.training.loop import NonFiniteError, train

SETTINGS = (
    "data.source=glosses",
    "init_from=none",
    "batch_size=8",
    "steps=1",
    "model.width=16",
    "model.mlp_dim=32",
    "model.num_heads=2",
    "model.depth=2",
    "model.text_length=8",
    "model.text_positions=8",
    "data.max_masked_tokens=3",
    "checkpoint.keep_last=1",
    "optimizer.warmup_steps=0",
    "optimizer.schedule=constant",
)


def test_a_last_step_that_breaks_the_parameters_is_no_end(tmp_path):
    config = tiny.parse("stage2:tiny", *SETTINGS, "optimizer.learning_rate=3e38")
    with config.unlocked():
        config.evals = {}
        config.optimizer.rate_multipliers = (("text_embedding/word", 1e3),)
    with pytest.raises(NonFiniteError) as raised:
        train(config, tmp_path)
    message = str(raised.value)
    assert message.startswith("step 1: ") and " is not finite" in message
    assert "it has no checkpoint yet" in message and "learning_rate" in message
    assert not list((tmp_path / "checkpoints").iterdir())


def test_converted_parameters_that_are_not_finite_are_refused(tmp_path):
    params = tiny.params()
    params["mlm_head"]["decoder"]["bias"][3] = float("nan")
    with pytest.raises(NotFiniteError, match="^mlm_head/decoder/bias has values that are NaN"):
        save_params(tmp_path / "checkpoints", params, {})
    assert not (tmp_path / "checkpoints").exists()
