"""The recipe of NLVR2: the official numbers, a run from files to the official CSV, refusals."""

import json

import pytest

from configs import finetune_nlvr2
from tests import tiny
from tests.datasets.readers.official_files import build, nlvr2
from tests.recipes.shapes import assert_fits
from tests.recipes.stage3_checkpoint import SMALL, save_stage3
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.readers.nlvr2 import Nlvr2Reader
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.loop import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("nlvr2")
    return build(Nlvr2Reader(nlvr2(root / "download")), root / "nlvr2")


def parse(folder, *settings, recipe="finetune_nlvr2:tiny,48"):
    own = (f"data.source={folder}", "evals.nlvr2.batch_size=8")
    return tiny.parse(recipe, *SMALL, *own, *settings)


@pytest.mark.parametrize(
    "size, rate, drop_path", [("base", 5e-5, 0.1), ("base_plus", 3e-5, 0.2), ("large", 3e-5, 0.15)]
)
def test_official_recipes(size, rate, drop_path):
    config = finetune_nlvr2.get_config(size)
    model, optimizer = config.model, config.optimizer
    assert (model.image_size, model.heads, model.drop_path_rate) == (384, ("nlvr2",), drop_path)
    assert (config.batch_size, config.steps, optimizer.warmup_steps) == (128, 6747, 674)
    assert (optimizer.learning_rate, optimizer.rate_multipliers) == (rate, ())
    assert (config.data.kind, config.data.flip, config.evals.nlvr2.splits) == (
        "statements",
        True,
        ("dev",),
    )
    assert finetune_nlvr2.get_config(f"{size},224").model.image_size == 224


def test_a_statement_costs_two_fused_passes():
    one, two = (
        Recipe(tiny.parse(f"finetune_{task}:base,384", "tokenizer=emoji", "data.source=x"))
        for task in ("vqa", "nlvr2")
    )
    assert two.forward_flops() / one.forward_flops() == pytest.approx(2, rel=1e-3)


def test_from_files_to_scores_by_a_checkpoint_of_another_size(folder, tmp_path):
    init = save_stage3(tmp_path / "stage3")
    config = parse(
        folder, f"init_from={init}", "accumulation=2", "mesh.data=4", "mesh.fsdp=2", "batch_size=16"
    )
    assert train(config, tmp_path / "run")
    lines = [
        json.loads(one) for one in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert sum("train/nlvr2_loss" in line for line in lines) == 4
    last = lines[-1]
    for name in ("accuracy", "consistency", "accuracy_balanced_dev"):
        assert 0 <= last[f"eval/nlvr2/nlvr2_dev/{name}"] <= 1
    assert "eval/nlvr2/nlvr2_test1/accuracy" in last  # all splits but the one trained on
    csv = next((tmp_path / "run").rglob("nlvr2_nlvr2_dev.csv"), None)
    assert csv is None or csv.read_text().count("\n") == 3


def test_batches_of_the_input_fit_the_recipe(folder):
    recipe = Recipe(parse(folder, "init_from=none"))
    recipe.check(8)
    recipe.open()
    with recipe.batches(0) as batches:
        assert_fits(next(batches), recipe)
    assert_fits(recipe.synthetic_batch(), recipe)


@pytest.mark.parametrize(
    "settings, message",
    [
        (("data.split=test9",), "split='test9' is not in .*; there are: train"),
        (("evals.nlvr2.splits=('test9',)",), "'test9' is not in"),
        (
            ("data.source=emoji_questions",),
            "holds images with questions, not statements about two im",
        ),
        (("model.heads=('vqa',)",), r"config.model.heads=\('vqa',\) lacks nlvr2"),
        (("data.kind=questions",), "config.data.answer_matching is missing|does not go with"),
        (("init_from=",), "config.init_from is not set"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_impossible_settings_are_refused(folder, settings, message):
    with pytest.raises(ConfigError, match=message):
        recipe = Recipe(parse(folder, "init_from=none", *settings))
        recipe.check(8)
        recipe.open()
