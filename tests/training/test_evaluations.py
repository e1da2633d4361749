"""Several named evaluations in one run: schedules, protocols, names, pictures, averages."""

import json

import pytest

from tests import tiny
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.evaluate import evaluate
from vlmo_jax.training.loop import train

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


def test_each_has_its_own_schedule_names_and_picture(workdir):
    assert steps_by_name(workdir) == {"retrieval": [0, 2, 4], "averages": [0, 4]}
    assert (workdir / "retrieval.png").exists() and (workdir / "averages.png").exists()
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    names = {key.rpartition("/")[0] for key in last if key.startswith("eval/")}
    assert names == {f"eval/retrieval/emoji_{SPLIT}", f"eval/averages/emoji_{SPLIT}"}


def test_evaluation_alone_scores_what_the_run_did(workdir, capsys):
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    scores = evaluate(config(mode="eval"), workdir)
    assert scores == pytest.approx({name: last[name] for name in scores})
    printed = capsys.readouterr().out
    assert "protocol first_caption" in printed and "protocol all_captions" in printed
    assert (workdir / "evaluation_averages.png").exists()


@pytest.mark.parametrize(
    "part, change, message",
    [
        ("averages", dict(protocol="best"), "config.evals.averages.protocol='best' is not allowed"),
        ("averages", dict(kind="rank"), "config.evals.averages.kind='rank' is not allowed"),
        ("averages", dict(batch_size=9), "config.evals.averages.batch_size=9 does not divide"),
        (
            "averages",
            dict(kind="masked_images"),
            "config.model.kind='vlmo' has not what|does not go",
        ),
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


@pytest.mark.parametrize(
    "part, kind, message",
    [
        ("model", "beit", "config.model.kind='beit' has not what config.task asks of a model"),
        ("data", "images", "config.task.kind='pair_pretrain' reads .*token_ids.*'images' does not"),
        ("task", "nothing", "config.task.kind='nothing' is not allowed; use one of pair_pretrain"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(part, kind, message):
    changed = config()
    changed[part].kind = kind
    with pytest.raises(ConfigError, match=message):
        Recipe(changed).make_task()


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
