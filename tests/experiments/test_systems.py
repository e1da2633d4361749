"""The comparison of the systems: what is planned, what runs, what a second start does, what is
written. Nothing is trained.
"""

import dataclasses
import json

import pytest

from configs import systems as recipes
from tests import tiny
from vlmo_jax.checkpoints.warm_start.plan import check_rules
from vlmo_jax.commands.command_line import read_config
from vlmo_jax.datasets.sources import open_source
from vlmo_jax.experiments import measure, system_runs, systems
from vlmo_jax.experiments.contenders import CLAIMS, CONTENDERS, SYSTEMS
from vlmo_jax.experiments.measure import Measured
from vlmo_jax.experiments.runs import RunStoppedError, Usage
from vlmo_jax.experiments.system_runs import PAIRS, TIME, Plan, list_jobs, steps_within
from vlmo_jax.recipes import Recipe

FAST, SLOW = 0.1, 0.4
MEASURED = {
    contender.like: Measured(
        params=2_000_000,
        flops=10**8,
        step_seconds=FAST if contender.like == "clip" else SLOW,
        compile_seconds=10.0,
        search_seconds=0.001,
        searches_by="pairs" if contender.like in ("vilt", "vilbert") else "vectors",
        pair_seconds=0.0 if contender.like in ("clip", "vse_infinity") else 0.001,
    )
    for contender in SYSTEMS.values()
}


@pytest.mark.parametrize("name", [*recipes.SYSTEMS, *recipes.VARIANTS])
def test_all_have_the_same_pairs_and_evaluations(name):
    config, vlmo = tiny.parse(f"systems:{name}"), tiny.parse("stage3:tiny")
    scored = tiny.parse(f"systems:{name},score", "mode=eval")
    for one in (config, scored):
        one.init_from = "none"
        if "visual_tokenizer" in one:
            one.visual_tokenizer = "x"
        Recipe(one).check(1)
    check_rules(config.init_rules, config.init_fresh)
    shared = ("source", "captions", "crop_scale", "flip", "mean", "std", "mask_rate")
    assert all(config.data[field] == vlmo.data[field] for field in shared)
    assert (config.tokenizer, config.batch_size) == (vlmo.tokenizer, vlmo.batch_size)
    assert (config.model.image_size, config.model.text_length) == (64, 16)
    splits = {name: tuple(part.splits) for name, part in scored.evals.items()}
    for evaluation, own in splits.items():
        some = evaluation.startswith("some")
        assert own == (("train[:200]",) if some else (recipes.REPORTED,))
    assert config.data.split == recipes.LEARNED == systems.LEARNED


def test_no_system_learns_from_the_artist_that_is_reported():
    artists = [
        {record.image_id.partition("/")[0] for record in open_source("emoji", split)}
        for split in (recipes.REPORTED, recipes.LEARNED, "unseen_concepts")
    ]
    assert artists[0] == {"emojione2"} and "emojione2" not in artists[1] | artists[2]
    assert len(open_source("emoji", recipes.REPORTED)) == measure.DRAWINGS


@pytest.mark.parametrize("name", recipes.SYSTEMS)
def test_all_answer_the_same_questions(name):
    config, vlmo = tiny.parse(f"systems:{name},vqa"), tiny.parse("finetune_vqa:tiny")
    config.init_from = "none"
    Recipe(config).check(1)
    assert config.data.source == vlmo.data.source and not config.data.flip
    assert config.model.num_answers == vlmo.model.num_answers
    assert config.optimizer.learning_rate == vlmo.optimizer.learning_rate


def test_unknown_arguments_are_refused():
    with pytest.raises(ValueError, match="'blip' is unknown; use one of vlmo, clip"):
        recipes.get_config("blip")
    with pytest.raises(ValueError, match="leave it out or use vqa or score"):
        recipes.get_config("clip,nlvr2")


def test_equal_time_is_the_time_of_vlmo_and_its_run_is_made_once():
    plan = Plan(steps=100, answer_steps=50, seeds=2, drawings=20, settings={})
    jobs = list_jobs(tuple(SYSTEMS), plan, MEASURED)
    steps = {(job.name, job.equal): job.steps for job in jobs if not job.use}
    assert steps["clip", PAIRS] == steps["vlmo", PAIRS] == 100
    assert steps["clip", TIME] == 400 and steps["albef", TIME] == 100
    assert ("vlmo", TIME) not in steps and ("vlmo_chain", TIME) not in steps
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)
    assert len([job for job in jobs if job.use == "vqa"]) == 2 * len(SYSTEMS)


def test_the_steps_are_those_that_fit_into_the_time():
    names = tuple(SYSTEMS)
    steps = steps_within(7200, names, MEASURED, 3, 200)
    seconds = [
        sum(job.seconds for job in list_jobs(names, Plan(count, count, 3, 200, {}), MEASURED))
        for count in (steps, steps + 3)
    ]
    assert seconds[0] <= 7200 * 1.001 < 7210 < seconds[1]


def test_claims_differ_in_one_thing_and_run_on_what_there_is():
    for claim in CLAIMS:
        assert len(claim.contenders) > 1 and set(claim.contenders) <= set(CONTENDERS)
        for name in claim.contenders:
            contender = CONTENDERS[name]
            given = {**contender.settings, **contender.shares}
            given = {field: given[field] if field in contender.settings else 7 for field in given}
            read_config(f"systems:{contender.recipe}", given)  # fields that are there


@pytest.fixture
def runs(monkeypatch):
    """Stands in for runs and measurements: recipe, folder and settings of each."""
    found = []

    def run(recipe, folder, fields):
        config = read_config(recipe, fields)
        found.append((recipe, folder, fields))
        folder.mkdir(parents=True, exist_ok=True)
        if config.mode == "eval" or ",vqa" in recipe:
            for name, part in config.evals.items():
                value = 0.25 + 0.01 * config.seed
                metrics = {"mean_recall": value, "accuracy": value}
                line = {"evaluation": name, "split": part.splits[0], "metrics": metrics}
                with open(folder / "results.jsonl", "a") as file:
                    file.write(json.dumps(line) + "\n")
        else:
            line = {"step": 1, "train/loss": 1.0, "eval/curve/x/mean_recall": 0.1}
            lines = [line, {**line, "step": config.steps}]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
        return Usage(1.0, 2**30)

    monkeypatch.setattr(system_runs, "run_recipe", run)
    monkeypatch.setattr(systems, "run_recipe", run)
    measure = lambda names, *_: {CONTENDERS[n].like: MEASURED[CONTENDERS[n].like] for n in names}
    monkeypatch.setattr(systems, "measure_all", measure)
    return found


def arguments(tmp_path, *more):
    return [f"--workdir={tmp_path / 'out'}", "--steps=8", "--seeds=2", "--drawings=20", *more]


def test_everything_runs_once_and_is_written(runs, tmp_path, capsys):
    some = "--systems=vlmo,vlmo_chain,clip,vilt"
    systems.main(arguments(tmp_path, some))
    stages = {folder.name: fields.get("data.split") for _, folder, fields in runs[:3]}
    assert stages == {"tokenizer": recipes.LEARNED, "stage1": recipes.LEARNED, "stage2": None}
    by_folder = {(recipe, folder.name, folder.parent.name): f for recipe, folder, f in runs}
    scratch = by_folder["systems:vlmo", "vlmo_seed1", "pairs"]
    assert (scratch["init_from"], scratch["seed"], scratch["steps"]) == ("none", 1, 8)
    chained = by_folder["systems:vlmo", "vlmo_chain_seed0", "pairs"]
    assert chained["init_from"] == tmp_path / "out" / "chain" / "stage2"
    assert by_folder["systems:clip", "clip_seed0", "time"]["steps"] == 32
    answered = by_folder["systems:vilt,vqa", "vilt_seed0_vqa", "pairs"]
    assert answered["init_from"] == tmp_path / "out" / "pairs" / "vilt_seed0"
    scored = by_folder["systems:vlmo,score", "vlmo_seed0", "pairs"]
    assert scored["evals.some_vectors.rerank_top_k"] == 16
    assert scored["evals.some_pairs.splits"] == "('train[:20]',)"
    text = (tmp_path / "out" / "systems.md").read_text()
    assert "| CLIP | 2.00 M | 100 | 100 | 8 | 1 ms | 25.5 ± 0.7 | 25.5 ± 0.7 |" in text
    assert "| CLIP | 2.00 M | 100 | 100 | 32 |" in text
    assert (tmp_path / "out" / "systems.png").stat().st_size > 10_000
    assert "8 steps where pairs are equal" in capsys.readouterr().out
    count = len(runs)
    systems.main(arguments(tmp_path, some))
    assert len(runs) == count  # all is done


def test_what_was_stopped_goes_on_and_claims_take_what_there_is(runs, tmp_path, monkeypatch):
    whole = system_runs.run_recipe

    def stopped(recipe, folder, fields):
        if recipe == "systems:clip,score":
            raise RunStoppedError("stopped", 143, Usage(1.0, 1))
        return whole(recipe, folder, fields)

    monkeypatch.setattr(system_runs, "run_recipe", stopped)
    some = "--systems=vlmo,clip"
    with pytest.raises(SystemExit):
        systems.main(arguments(tmp_path, some))
    monkeypatch.setattr(system_runs, "run_recipe", whole)
    before = len(runs)
    systems.main(arguments(tmp_path, some))
    assert runs[before][0] == "systems:clip,score"
    count = len(runs)
    systems.main(arguments(tmp_path, "--claims"))
    made = {(recipe, folder.name) for recipe, folder, _ in runs[count:]}
    assert ("systems:vlmo_two_experts", "vlmo_two_experts_seed0") in made
    assert ("systems:vlmo", "vlmo_seed0") not in made  # of the systems
    assert (
        "| Shared attention | separate attention | 25.5"
        in (tmp_path / "out" / "claims.md").read_text()
    )


def test_another_plan_is_refused_in_one_line(runs, tmp_path, capsys):
    systems.main(arguments(tmp_path, "--systems=vlmo", "--plan"))
    with pytest.raises(SystemExit):
        systems.main([*arguments(tmp_path, "--systems=vlmo", "--plan"), "--drawings=30"])
    assert "planned with drawings=20, not 30" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        systems.main(arguments(tmp_path, f"--chain={tmp_path}", "--plan"))
    assert "has no tokenizer/checkpoints" in capsys.readouterr().err
    for wrong, words in (("--systems=clip", "lacks vlmo"), ("--systems=vlmo,x", "'x' is none of")):
        with pytest.raises(SystemExit):
            systems.main(arguments(tmp_path, wrong))
        assert words in capsys.readouterr().err


def test_a_plan_is_read_as_it_was_written(runs, tmp_path):
    systems.main(arguments(tmp_path, "--systems=vlmo", "--plan", "--set=log_every=3"))
    kept = Plan(**json.loads((tmp_path / "out" / "plan.json").read_text()))
    assert dataclasses.asdict(kept)["settings"] == {"log_every": "3"}
