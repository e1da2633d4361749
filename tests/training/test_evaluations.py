"""Several named evaluations in one run: schedules, protocols, names, pictures, averages."""

import json

import pytest

from tests import tiny
from vlmo_jax.checkpoints.store import find_metric
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.sources import split_sizes
from vlmo_jax.evals.collect import NothingToEvaluateError, collect_rows
from vlmo_jax.evals.interruption import interruptible
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.evaluate import evaluate
from vlmo_jax.training.loop import Loop, train

SPLIT = "unseen_concepts[:8]"


def config(**fields):
    """Four steps, scored in two ways: all captions at every second step, first ones at the end."""
    config = tiny.config(
        dict(vocab_size=4000, position="absolute"),
        dict(warmup_steps=0, ema_decay=0.5),
        steps=4,
        log_every=2,
    )
    retrieval = config.evals.retrieval
    retrieval.update(splits=(SPLIT,), batch_size=8, every_steps=2)
    config.evals.averages = retrieval.copy_and_resolve_references()
    config.evals.averages.update(protocol="first_caption", averaged=True, every_steps=100)
    config.checkpoint.update(
        every_steps=4, best_metric="eval/averages/emoji_" + SPLIT + "/mean_recall"
    )
    config.update(fields)
    return config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    assert train(config(), workdir)
    return workdir


def steps_by_name(workdir):
    """Evaluation -> the steps at which it was made."""
    found = {}
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for name in {key.split("/")[1] for key in record if key.startswith("eval/")}:
            found.setdefault(name, []).append(record["step"])
    return found


def last_scores(workdir):
    """All scores of the last step."""
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    last = [record for record in records if record["step"] == 4]
    return {k: v for record in last for k, v in record.items() if k.startswith("eval/")}


def test_each_has_its_own_schedule_names_and_picture(workdir):
    assert steps_by_name(workdir) == {"retrieval": [0, 2, 4], "averages": [0, 4]}
    assert (workdir / "retrieval.png").exists() and (workdir / "averages.png").exists()
    names = {key.rpartition("/")[0] for key in last_scores(workdir)}
    assert names == {f"eval/retrieval/emoji_{SPLIT}", f"eval/averages/emoji_{SPLIT}"}


def test_evaluation_alone_scores_what_the_run_did(workdir, capsys):
    last = last_scores(workdir)
    scores = evaluate(config(mode="eval"), workdir)
    assert scores == pytest.approx(last)
    printed = capsys.readouterr().out
    assert "protocol first_caption" in printed and "protocol all_captions" in printed
    assert (workdir / "evaluation_averages.png").exists()


@pytest.mark.parametrize(
    "part, change, message",
    [
        ("averages", dict(protocol="best"), "config.evals.averages.protocol='best' is not allowed"),
        ("averages", dict(kind="rank"), "config.evals.averages.kind='rank' is not allowed"),
        ("averages", dict(batch_size=9), "config.evals.averages.batch_size=9 does not divide"),
        ("averages", dict(kind="masked_images"), "does not go with config.data.kind='pairs'"),
        ("retrieval", dict(rerank_top_k=-1), "config.evals.retrieval.rerank_top_k=-1 must be 0"),
    ],
)
def test_impossible_evaluations_are_refused_by_their_name(part, change, message):
    changed = config()
    changed.evals[part].update(change)
    with pytest.raises(ConfigError, match=message):
        Recipe(changed).check(8)


def test_averages_that_are_not_kept_are_refused():
    changed = config()
    changed.optimizer.ema_decay = 0.0
    with pytest.raises(ConfigError, match="config.evals.averages.averaged=True needs averaged"):
        Recipe(changed).check(8)


def joined(stage, *settings, **parts):
    """The recipe of a stage with parts of others: `data="stage1"` takes the data of stage 1."""
    config = tiny.parse(f"{stage}:tiny", *settings)
    with config.unlocked():
        for part, other in parts.items():
            config[part] = tiny.parse(f"{other}:tiny")[part]
        config.evals = {}
    return config


@pytest.mark.parametrize(
    "stage, parts, message",
    [
        ("stage3", dict(model="stage1"), "config.model.kind='beit' has not what config.task asks"),
        (
            "stage3",
            dict(data="visual_tokenizer"),
            "task.kind='pair_pretrain' reads .*token_ids.*config.data.kind='images' does not give",
        ),
        (
            "visual_tokenizer",
            dict(data="stage3"),
            "model.kind=discrete_vae, config.data.kind=pairs, .*do not go together: one asks",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused(stage, parts, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(joined(stage, **parts)).check(8)


def test_a_part_without_a_kind_is_refused():
    old = config()
    with old.unlocked():
        del old.model["kind"]
    with pytest.raises(ConfigError, match="config.model.kind=None is not allowed; use one of vlmo"):
        Recipe(old)


def test_evaluating_nothing_is_refused():
    with pytest.raises(ConfigError, match="config.mode='eval' has nothing to do: config.evals is"):
        Recipe(joined("stage3", "mode=eval")).check(8)


def test_a_best_metric_says_of_which_evaluation_it_is():
    changed = config()
    changed.checkpoint.best_metric = "mean_recall"
    message = (
        "write retrieval/mean_recall or averages/mean_recall|averages/mean_recall or retrieval"
    )
    with pytest.raises(ConfigError, match=message):
        Recipe(changed).check(8)
    changed.checkpoint.best_metric = "search/mean_recall"
    with pytest.raises(ConfigError, match="names no evaluation of this run; they are averages, re"):
        Recipe(changed).check(8)
    metrics = {"eval/a/x/recall": 0.0, "eval/a/y/recall": 1.0, "eval/b/x/recall": 2.0}
    assert find_metric(metrics, "a/recall") == [0.0, 1.0]
    assert find_metric(metrics, "eval/b/x/recall") == [2.0]
    assert find_metric(metrics, "recall") == [0.0, 1.0, 2.0]
    assert not find_metric(metrics, "x/recall")


def test_evaluations_say_what_they_miss_in_the_data():
    texts = tiny.parse("stage2:tiny", "init_from=none")
    with texts.unlocked():
        texts.evals.search = config().evals.retrieval
    with pytest.raises(ConfigError, match="config.data.kind='texts' does not say mean and std"):
        Recipe(texts).check(8)
    images = tiny.parse("visual_tokenizer:tiny", "data.source=emoji")
    with images.unlocked():
        images.evals.words = texts.evals.masked_text
    with pytest.raises(ConfigError, match="config.model.kind='discrete_vae' has not what config"):
        Recipe(images)


def test_an_evaluation_that_is_stopped_is_made_at_the_next_start_and_the_best_stays_the_best(
    workdir, tmp_path, monkeypatch
):
    """The last ones, of which the best metric is one."""
    whole, made = Loop.evaluate, []

    def stopped(loop, step, names):
        made.append(step)
        with interruptible(lambda: len(made) == 3):
            return whole(loop, step, names)

    monkeypatch.setattr(Loop, "evaluate", stopped)
    folder = tmp_path / "run"
    assert not train(config(), folder) and made == [0, 2, 4]
    assert json.loads((folder / "checkpoints/4/metrics/metrics").read_text()) == {}
    assert train(config(), folder) and made == [0, 2, 4, 4]
    assert train(config(), folder) and made == [0, 2, 4, 4]
    assert last_scores(folder) == last_scores(workdir)
    assert (folder / "averages.png").exists()
    best = [run / "checkpoints/4/metrics/metrics" for run in (folder, workdir)]
    assert json.loads(best[0].read_text()) == json.loads(best[1].read_text()) != {}


def test_evaluating_nothing_is_an_error(workdir, tmp_path):
    trained = "+".join(split_sizes("emoji"))
    nothing = config(mode="eval", init_from=str(workdir))
    nothing.data.split, nothing.evals.averages.splits = trained, ()
    with pytest.raises(NothingToEvaluateError, match=r"config.evals.averages.splits=\(\) leaves"):
        evaluate(nothing, tmp_path)
    with pytest.raises(NothingToEvaluateError, match="the split has no rows"):
        collect_rows([], 0)
