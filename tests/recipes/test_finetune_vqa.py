"""The recipe of VQAv2: the official numbers, a run from files to the server's form, refusals."""

import json

import pytest

from configs import finetune_vqa
from tests import tiny
from tests.datasets.readers.official_files import build, vqav2
from tests.recipes.shapes import assert_fits
from tests.recipes.stage3_checkpoint import SMALL, save_stage3
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.readers.vqav2 import VqaV2Reader
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.evaluate import evaluate
from vlmo_jax.training.loop import train

OWN = ("model.num_answers=2", "evals.vqa.batch_size=8", "data.max_broken_fraction=0.0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("vqa")
    return build(VqaV2Reader(vqav2(root / "download")), root / "vqav2")


def parse(folder, *settings, recipe="finetune_vqa:tiny,48"):
    return tiny.parse(recipe, *SMALL, *OWN, f"data.source={folder}", *settings)


@pytest.mark.parametrize("size, rate", [("base", 3e-5), ("base_plus", 3e-5), ("large", 1.5e-5)])
def test_official_recipes(size, rate):
    config = finetune_vqa.get_config(size)
    model, optimizer, data = config.model, config.optimizer, config.data
    assert (model.image_size, model.text_length, model.drop_path_rate) == (480, 40, 0.15)
    assert (model.heads, model.num_answers) == (("vqa",), 3129)
    assert (config.batch_size, config.steps, optimizer.warmup_steps) == (128, 51414, 5141)
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.betas) == (
        rate,
        0.01,
        (0.9, 0.98),
    )
    assert (optimizer.power, optimizer.end_learning_rate, optimizer.layer_decay) == (1.0, 0.0, 1.0)
    assert optimizer.rate_multipliers == ((r"vqa_head/.*", 20.0),)
    assert (data.crop_scale, tuple(data.randaugment), data.flip, data.mean) == (
        (0.5, 1.0),
        (2, 7),
        True,
        (0.5, 0.5, 0.5),
    )
    assert (data.kind, data.answer_matching, data.randaugment_fill) == (
        "questions",
        "official",
        (128,) * 3,
    )
    assert finetune_vqa.get_config(f"{size},384").model.image_size == 384


def test_a_pair_costs_a_fused_pass():
    recipe = Recipe(tiny.parse("finetune_vqa:base", "tokenizer=emoji", "data.source=x"))
    assert recipe.forward_flops() / 1e9 == pytest.approx(193.56, abs=0.01)


def test_from_files_to_the_server_by_a_checkpoint_of_another_size(folder, tmp_path, capsys):
    init = save_stage3(tmp_path / "stage3")
    config = parse(folder, f"init_from={init}", "evals.vqa.splits=('validation',)")
    assert train(config, tmp_path / "run")
    said = capsys.readouterr().out
    assert "training questions about 8 images" in said
    assert "(config.data.answer_matching='official')" in said
    lines = [
        json.loads(one) for one in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    losses = [line["train/vqa_loss"] for line in lines if "train/vqa_loss" in line]
    assert len(losses) == 4 and losses[0] < 30
    accuracies = [line for line in lines if "eval/vqa/vqav2_validation/accuracy" in line]
    assert [line["step"] for line in accuracies] == [0, 4]
    config = parse(folder, f"init_from={init}", "evals.vqa.splits=('test2015',)", "mode=eval")
    assert evaluate(config, tmp_path / "run") == {}
    (path,) = (tmp_path / "run").rglob("vqa_vqav2_test2015_results.json")
    assert {row["question_id"] for row in json.loads(path.read_text())} == {4000, 4001, 4002}

    result = json.loads((tmp_path / "run" / "results.jsonl").read_text().splitlines()[-1])
    assert (result["questions"], result["images"], result["split"]) == (3, 2, "vqav2_test2015")
    assert result["preprocessing"]["answers"]["number"] == 2 and result["metrics"] == {}

    other = tmp_path / "answers.txt"
    other.write_text("yes\n2\n")
    with pytest.raises(
        ConfigError, match="has 2 answers and is not the one of 2 that .* trained with"
    ):
        evaluate(
            parse(folder, f"data.answers={other}", "mode=eval", "evals.vqa.splits=('test2015',)"),
            tmp_path / "run",
        )


def test_batches_of_the_input_fit_the_recipe(folder):
    recipe = Recipe(parse(folder, "init_from=none"))
    recipe.check(8)
    recipe.open()
    with recipe.batches(0) as batches:
        assert_fits(next(batches), recipe)
    assert_fits(recipe.synthetic_batch(), recipe)
    identity = recipe.data_identity
    assert identity["records"] == 8 and identity["questions"] == len(recipe.data.source)


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            ("model.num_answers=3129",),
            "=3129 but .*answers.txt lists 2 answers; set --config.model.num_answers=2",
        ),
        (
            ("data.answers=/nowhere.txt",),
            "config.data.answers='/nowhere.txt': /nowhere.txt: there is no such file",
        ),
        (
            ("data.answer_matching=lower",),
            "config.data.answer_matching='lower' is not allowed; use one of official, normalised",
        ),
        (("data.split=minival",), "split='minival' is not in .*; there are: "),
        (("evals.vqa.splits=('minival',)",), "config.evals.vqa.splits=.*'minival' is not in"),
        (
            ("data.split=test2015",),
            "none of its 3 questions has an answer among the 2 of the model",
        ),
        (
            ("data.source=emoji",),
            "holds images with captions, not images with questions .*build VQA OUT",
        ),
        (
            ("model.heads=('itm',)",),
            r"config.model.heads=\('itm',\) lacks vqa, which config.evals.vqa.kind",
        ),
        (
            ("init_from=",),
            "config.init_from is not set: this recipe starts from a model that was pre-tr",
        ),
        (
            ("evals.vqa.kind=nlvr2",),
            "config.evals.vqa.kind='nlvr2' does not go with config.data.kind='questions'",
        ),
        (
            ("task.kind=nlvr2",),
            "config.task.kind='nlvr2' reads image_0, image_1, label, which config.data.kind=",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_impossible_settings_are_refused(folder, settings, message):
    with pytest.raises(ConfigError, match=message):
        recipe = Recipe(parse(folder, "init_from=none", *settings))
        recipe.check(8)
        recipe.open()
