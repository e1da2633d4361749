"""Fine-tuning on captions: what its recipes say, what they refuse, and a run from a checkpoint."""

import json
import math

import pytest

from configs import finetune_caption
from tests import tiny
from tests.recipes.stage3_checkpoint import SMALL, save_stage3
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.evals.caption import scored_by
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.loop import train

FEW = (
    "data.split=train[:16]",
    "evals.caption.splits=('unseen_artist[:4]',)",
    "evals.blind.splits=('unseen_artist[:4]',)",
    "evals.caption.max_length=6",
    "evals.blind.max_length=6",
    "evals.caption.beams=2",
    "evals.blind.beams=1",
    "evals.caption.batch_size=8",
    "evals.blind.batch_size=8",
)


@pytest.mark.parametrize("size, rate", [("base", 4e-5), ("large", 8e-6)])
def test_official_recipe(size, rate):
    config = finetune_caption.get_config(size)
    assert config.optimizer.learning_rate == rate and config.steps == 22_130
    assert (config.model.image_size, config.model.text_length) == (480, 32)
    assert config.evals.caption.max_length == 64 and config.task.training == "masked"


@pytest.mark.parametrize(
    "settings, message",
    [
        (["task.training=both"], "config.task.training='both'"),
        (["task.mask_rate=0.0"], "config.task.mask_rate=0"),
        (["data.max_masked_tokens=3"], "data.max_masked_tokens=3 hides words .* use 0"),
        (["model.heads=('mlm',)"], "lacks caption, which config.*kind='caption' needs"),
        (["evals.caption.beams=0"], "config.evals.caption.beams=0"),
        (
            ["evals.caption.max_length=17"],
            "max_length=17 is more than config.model.text_positions=16",
        ),
        (["evals.caption.length_penalty=-1.0"], "config.evals.caption.length_penalty=-1"),
    ],
)
def test_impossible_fields_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(tiny.parse("finetune_caption:tiny,32", *SMALL, "init_from=none", *settings)).check(1)


@pytest.mark.parametrize("training", ["masked", "next_token"])
def test_a_run_from_stage_3(tmp_path, training):
    start = save_stage3(tmp_path / "stage3")
    settings = (*SMALL, *FEW, f"init_from={start}", f"task.training={training}")
    train(tiny.parse("finetune_caption:tiny,32", *settings), tmp_path / "run")
    lines = [
        json.loads(row) for row in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    losses = [row["train/caption_loss"] for row in lines if "train/caption_loss" in row]
    assert losses and all(map(math.isfinite, losses))
    scores = [row for row in lines if "eval/caption/emoji_unseen_artist[:4]/cider" in row]
    assert scores
    results = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    assert {json.loads(row)["scored_by"] for row in results} == {scored_by()}
