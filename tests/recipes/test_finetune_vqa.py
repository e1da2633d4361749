"""The recipe of VQAv2: the official numbers, a run from files to the server's form, refusals."""

import json

import pytest

from configs import finetune_vqa
from tests import tiny
from tests.datasets.readers.official_files import build, vqav2
from tests.recipes.shapes import assert_fits
from tests.recipes.stage3_checkpoint import SMALL, save_stage3
from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.readers.vqav2 import VqaV2Reader
from vlmo_jax.models.build import abstract_params
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.evaluate import evaluate
from vlmo_jax.training.layer_decay import layer_factors
from vlmo_jax.training.loop import train
from vlmo_jax.training.optimizer import match_rules
from vlmo_jax.training.same_run import check_same_run

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


@pytest.mark.parametrize("kind", ["tiny", "tiny_dual"])
def test_the_head_alone_learns_at_twenty_times_the_rate(kind):
    official = finetune_vqa.get_config("base").optimizer.rate_multipliers
    recipe = Recipe(tiny.parse(f"finetune_vqa:{kind}", *SMALL))
    params = abstract_params(recipe.make_model)
    rates = flatten(match_rules(params, [*official, (".*", 1.0)], key="optimizer.rate_multipliers"))
    factors = flatten(layer_factors(params, 0.5))
    head = {path for path in rates if path[0] == "vqa_head"}
    assert len(head) == 6 and {path for path, rate in rates.items() if rate != 1} == head
    assert {(rates[path], factors[path]) for path in head} == {(20.0, 1.0)}


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

    with pytest.raises(ConfigError, match="it was made with config.task.kind=pair_pretrain, .*=32"):
        evaluate(config, tmp_path / "new")
    other = tmp_path / "answers.txt"
    other.write_text("yes\n2\n")
    tuned = ("init_from=" + str(tmp_path / "run"), f"data.answers={other}")
    with pytest.raises(ConfigError, match='answers by another list .*"vqa_head/..", "skip"'):
        train(parse(folder, *tuned), tmp_path / "again")
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


def test_a_run_goes_on_with_its_own_list_of_answers_alone(folder, tmp_path):
    def run(answers):
        (tmp_path / "answers.txt").write_text(answers)
        recipe = Recipe(parse(folder, "init_from=none", f"data.answers={tmp_path}/answers.txt"))
        recipe.open()
        return recipe

    meta = run("2\nyes\n").meta()
    check_same_run(run("2\nyes\n"), meta, tmp_path)
    with pytest.raises(ConfigError, match="other contents of config.data.answers .*'number': 2"):
        check_same_run(run("yes\n2\n"), meta, tmp_path)


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
            ("mode=eval", "data.source=", "evals.vqa.source=emoji"),
            "config.evals.vqa.source='emoji': .*/answers.txt: there is no such file",
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
