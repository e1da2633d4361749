"""ALBEF's recipes build at full size, split over the devices, and refuse what they do not have."""

import math

import jax
import pytest

from configs import albef
from tests import tiny
from tests.recipes.full_size import build
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.recipes import Recipe
from vlmo_jax.recipes.evaluations import retrieval

LOSSES = {
    "": {"loss", "itc_loss", "itm_loss", "mlm_loss"},
    "retrieval": {"loss", "itc_loss", "itm_loss"},
    "vqa": {"loss", "vqa_loss"},
}


@pytest.mark.parametrize("name", ["tiny", "base", "base,384", "base,retrieval", "tiny,vqa"])
def test_builds_at_full_size(name):
    recipe, program, state, metrics = build(f"albef:{name}")
    task = next((task for task in albef.TASKS if task in name), "")
    assert {metric for metric in metrics if metric.endswith("loss")} == LOSSES[task]
    assert all(value.shape == () for value in metrics.values())
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert shapes(state) == shapes(program.abstract_state)
    # Parameters, moments, towers and queues are split over the devices.
    whole = program.abstract_state
    leaves = jax.tree.leaves((whole.params, whole.opt_state, whole.extra))
    held = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
    bound = 0.4 if name.startswith("tiny") else 0.32
    assert held / sum(math.prod(leaf.shape) for leaf in leaves) < bound
    wanted = 64 if name.startswith("tiny") else 256 if name == "base" else 384
    assert recipe.config.model.image_size == wanted


@pytest.mark.parametrize(
    "name, message",
    [
        ("huge", "size 'huge' is unknown; use one of tiny, base"),
        ("base,big", "stand retrieval or vqa and an image size in pixels, and not big"),
        ("base,384,vqa", "and not 384, vqa"),
    ],
)
def test_what_is_unknown_is_refused(name, message):
    with pytest.raises(ValueError, match=f"configs/albef.py:{name}: .*{message}"):
        albef.get_config(name)


def test_pairs_are_ranked_by_the_logit_of_match_as_in_the_official_code(monkeypatch):
    monkeypatch.setattr(retrieval, "make_encoders", lambda graphdef, **given: given["match_score"])
    for name, expected in (("albef:tiny", "logit"), ("stage3:tiny", "log_odds")):
        recipe = Recipe(tiny.parse(name))
        assert recipe.evaluations["retrieval"].encoders(None) == expected
    with pytest.raises(ConfigError, match="evals.retrieval.match_score='odds'"):
        Recipe(tiny.parse("albef:tiny", "evals.retrieval.match_score=odds"))
