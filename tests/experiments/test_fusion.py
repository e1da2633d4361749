"""The comparison of a fused encoder with one that sees nothing and with a dual one: what runs, and
what is written of it.
"""

import json
import types

import pytest
from PIL import Image

from tests import tiny
from vlmo_jax.checkpoints.warm_start.plan import check_rules
from vlmo_jax.evals.evaluation import evaluation_splits
from vlmo_jax.experiments import fusion
from vlmo_jax.recipes import Recipe


@pytest.fixture
def runs(monkeypatch):
    """Stands in for runs of recipes: config, work folder and settings of each, in order."""
    found = []

    def run(config, workdir, settings):
        found.append((config, workdir.name, dict(settings)))
        workdir.mkdir(parents=True)
        task = config.split("finetune_")[1].partition(".")[0]
        prefix = settings["checkpoint.best_metric"].rpartition("_validation/")[0]
        lines = [
            {
                "step": step,
                "train/loss": 1.0 / step,
                **{
                    f"{prefix}_{split}/{metric}": step / 10
                    for split in fusion.SPLITS
                    for metric in fusion.COMPARISONS[task].shown
                },
            }
            for step in (1, 4)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (workdir / "metrics.jsonl").write_text(text)
        Image.new("RGB", (20, 20)).save(workdir / f"{task}.png")

    monkeypatch.setattr(fusion, "run_recipe", run)
    monkeypatch.setattr(fusion, "find_checkpoint", lambda path: path)
    return found


def test_three_models_run_alike_on_each_task(runs, tmp_path, capsys):
    arguments = [f"--init_from={tmp_path}", f"--workdir={tmp_path / 'out'}", "--set=steps=70"]
    fusion.main([*arguments, "--set=data.split=train[:2000]"])
    assert [(config.partition(".py:")[2], folder) for config, folder, _ in runs] == [
        ("tiny", "vqa_fused"),
        ("tiny_dual", "vqa_dual"),
        ("tiny", "vqa_blind"),
        ("tiny", "nlvr2_fused"),
        ("tiny_dual", "nlvr2_dual"),
        ("tiny", "nlvr2_blind"),
    ]
    sources = [settings["data.source"] for _, _, settings in runs]
    assert sources[1:4] == ["emoji_questions", "blank:emoji_questions", "emoji_statements"]
    for _, _, settings in runs:
        assert settings["steps"] == "70"
        assert "_validation/accuracy" in settings["checkpoint.best_metric"]  # not what is reported
    starts = [settings["init_from"] for _, _, settings in runs]
    own = [tmp_path / "out" / f"vqa_{name}" for name in ("fused", "dual", "blind")]
    assert starts == [tmp_path] * 3 + own  # statements after questions
    page = (tmp_path / "out" / "fusion.md").read_text()
    assert page.strip() in capsys.readouterr().out
    questions, statements = page.split("\n\n")
    assert "| fused encoder | 40.0 %" in questions and "| fused encoder | 40.0 %" in statements
    assert len(questions.splitlines()) == 7
    lookup = statements.splitlines()[-1].split("|")
    assert (
        45 < float(lookup[4].strip(" %")) < 55
    )  # accuracy on the artist that nothing is chosen by
    assert (tmp_path / "out" / "fusion.png").stat().st_size > 1000


def test_statements_alone_are_learned_from_the_checkpoint_that_is_given(runs, tmp_path):
    arguments = [f"--init_from={tmp_path}", f"--workdir={tmp_path / 'out'}"]
    fusion.main([*arguments, "--tasks=nlvr2", "--set=data.split=train[:2000]"])
    assert [settings["init_from"] for _, _, settings in runs] == [tmp_path] * 3


@pytest.mark.parametrize("name", ["fused", "blind"])
@pytest.mark.parametrize("source", ["embedded:emoji_questions", "emoji_questions"])
def test_the_blind_model_sees_nothing_of_a_data_set_that_is_set_either(
    runs, tmp_path, name, source
):
    settings = {"data.source": source, "init_from": "none"}
    scores, _ = fusion.run_contender("vqa", name, tmp_path / name, settings)
    [(_, _, given)] = runs
    assert given["data.source"] == ("blank:" if name == "blind" else "") + source
    part = types.SimpleNamespace(splits=("validation",), source=given["data.source"])
    [split] = evaluation_splits(part, None, "", lambda *_: [])
    assert given["checkpoint.best_metric"] == f"eval/vqa/{split}/accuracy"
    assert scores["unseen_artist/accuracy"] == 0.4


def test_unknown_tasks_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        fusion.main([f"--init_from={tmp_path}", "--tasks=vqa,captions"])
    assert "'captions' is none of vqa, nlvr2" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["vqa", "nlvr2"])
def test_the_recipe_of_a_dual_encoder(task):
    fused, dual = (tiny.parse(f"finetune_{task}:{size}") for size in ("tiny", "tiny_dual"))
    assert dual.model.kind == "dual_vlmo" and tuple(dual.model.experts) == ("image", "text")
    check_rules(dual.init_rules, dual.init_fresh)
    for config in (fused, dual):
        config.init_from = "none"
        Recipe(config).check(1)
    same = ("steps", "batch_size", "optimizer", "data", "task", "init_fresh")
    assert all(fused[field] == dual[field] for field in same)
    flops = [Recipe(config).task.forward_flops() for config in (fused, dual)]
    assert flops[1] < flops[0]
