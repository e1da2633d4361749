"""The runs of `python -m vlmo_jax.systems`: which there are, how long each takes, and how one is
made and remembered.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from vlmo_jax.commands.command_line import read_config
from vlmo_jax.experiments.contenders import CONTENDERS, Contender
from vlmo_jax.experiments.measure import DRAWINGS, Measured
from vlmo_jax.experiments.runs import run_recipe
from vlmo_jax.models.build import MODELS
from vlmo_jax.reports.metrics import announce

RECIPES = "systems"  # configs/systems.py
DONE = "done.json"  # in the folder of a run that has been trained, scored or fine-tuned
PAIRS, TIME = "pairs", "time"  # what is equal
REFERENCE = "vlmo"  # whose time is the time of all
TRAINED = "train"  # begins the name of its file
START_SECONDS = 10.0  # of a process, until it compiles
CURVES, CURVE_DRAWINGS, TOP_K = 5, 100, 16  # as configs/systems.py has them
WARM_UP = 0.12  # share of the steps, that of the small recipes: 60 of 500


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        steps: of each run where pairs are equal, and of the reference.
        answer_steps: of each fine-tuning on questions.
        seeds: runs of each contender.
        drawings: how many are searched by scoring every pair.
        settings: config field -> value, of all runs.
    """

    steps: int
    answer_steps: int
    seeds: int
    drawings: int
    settings: Mapping[str, str]


class Job(NamedTuple):
    """A process: a contender that is trained, scored or fine-tuned.

    Attributes:
        use: "" for training, or an argument of configs/systems.py: score, vqa.
        name: of CONTENDERS.
        equal: PAIRS or TIME.
        seed: of the run.
        steps: of it.
        seconds: that it is estimated to take.
    """

    use: str
    name: str
    equal: str
    seed: int
    steps: int
    seconds: float


def folder_of(workdir: pathlib.Path, equal: str, name: str, seed: int) -> pathlib.Path:
    """The work folder of a trained contender: the reference, whose time all have, has one run."""
    equal = PAIRS if CONTENDERS[name].like == REFERENCE else equal
    return workdir / equal / f"{name}_seed{seed}"


def steps_of(name: str, equal: str, plan: Plan, measured: Mapping[str, Measured]) -> int:
    """The steps of a contender: those of all, or as many as take the time of the reference."""
    if equal == PAIRS or CONTENDERS[name].like == REFERENCE:
        return plan.steps
    seconds = plan.steps * measured[REFERENCE].step_seconds
    return max(1, round(seconds / measured[CONTENDERS[name].like].step_seconds))


def num_params(contender: Contender) -> int:
    """The parameters of what a contender trains."""
    model = read_config(
        f"{RECIPES}:{contender.recipe}", {**contender.settings, "init_from": "none"}
    ).model
    return MODELS[model.kind].num_params(model)


def list_jobs(
    names: Iterable[str],
    plan: Plan,
    measured: Mapping[str, Measured],
    *,
    equals: Sequence[str] = (PAIRS, TIME),
    answers: bool = True,
) -> list[Job]:
    """All jobs, a seed after the other, so that what is stopped has whole seeds.

    Args:
        names: of CONTENDERS.
        plan: how much is done.
        measured: system -> what it costs.
        equals: what is equal, in turn; the reference is trained once.
        answers: whether those with equal pairs are fine-tuned on questions.
    """
    jobs = []
    for seed in range(plan.seeds):
        for equal in equals:
            for name in names:
                if equal == TIME and CONTENDERS[name].like == REFERENCE:
                    continue
                steps = steps_of(name, equal, plan, measured)
                uses = {"": steps, "score": steps}
                if answers and equal == PAIRS:
                    uses["vqa"] = plan.answer_steps
                cost = measured[CONTENDERS[name].like]
                jobs += [
                    Job(use, name, equal, seed, count, _estimate(use, count, plan, cost))
                    for use, count in uses.items()
                ]
    return jobs


def _estimate(use: str, steps: int, plan: Plan, cost: Measured) -> float:
    """Seconds of a job: start, compilation, steps, and passes of pairs."""
    only_pairs = cost.searches_by == "pairs"
    if use == "score":
        pairs = plan.drawings**2 + 2 * DRAWINGS + (0 if only_pairs else 2 * plan.drawings * TOP_K)
        return 2 * START_SECONDS + pairs * cost.pair_seconds
    # A question is about one fused pass forwards and backwards: taken as a step of pairs.
    curves = CURVES * CURVE_DRAWINGS**2 * cost.pair_seconds if only_pairs and not use else 0.0
    return START_SECONDS + cost.compile_seconds + steps * cost.step_seconds + curves


def steps_within(
    seconds: float,
    names: Sequence[str],
    measured: Mapping[str, Measured],
    seeds: int,
    drawings: int,
) -> int:
    """The steps with which all jobs take so many seconds; at least 1.

    Args:
        seconds: for all of them.
        names, measured: as of `list_jobs`.
        seeds, drawings: as of Plan.
    """

    def total(steps: int) -> float:
        plan = Plan(steps, steps, seeds, drawings, {})
        return sum(job.seconds for job in list_jobs(names, plan, measured))

    few, many = total(100), total(1100)
    return max(1, int(100 + (seconds - few) * 1000 / (many - few)))


class Runner:
    """Makes jobs, and remembers those that are done.

    Args:
        workdir: of the comparison.
        chain: folder of the stages that some contenders start from.
        plan: how much is done.
    """

    def __init__(self, workdir: pathlib.Path, chain: pathlib.Path, plan: Plan) -> None:
        self._workdir, self._chain, self._plan = workdir, chain, plan

    def folder(self, job: Job) -> pathlib.Path:
        """Where a job leaves what it makes."""
        folder = folder_of(self._workdir, job.equal, job.name, job.seed)
        return folder.with_name(f"{folder.name}_vqa") if job.use == "vqa" else folder

    def is_done(self, job: Job) -> bool:
        """Whether a job has been made."""
        return self._record(job).exists()

    def run(self, job: Job) -> None:
        """Makes a job, from where it was stopped.

        Raises:
            RunStoppedError: it failed or was stopped.
        """
        contender, folder = CONTENDERS[job.name], self.folder(job)
        what = {"": "training", "score": "scoring", "vqa": "questions"}[job.use]
        announce(f"\n{contender.title}, seed {job.seed}, equal {job.equal}: {what}")
        recipe = f"{RECIPES}:{contender.recipe}" + (f",{job.use}" if job.use else "")
        fields = self._fields(job, contender)
        took = run_recipe(recipe, folder, fields)
        record = self._record(job)
        partial = record.with_suffix(".partial")
        partial.write_text(json.dumps({"seconds": took.seconds, "steps": job.steps}) + "\n")
        os.replace(partial, record)

    def _record(self, job: Job) -> pathlib.Path:
        return self.folder(job) / f"{job.use or TRAINED}_{DONE}"

    def _fields(self, job: Job, contender: Contender) -> dict[str, Any]:
        """The settings of a job's config."""
        starts = {field: self._chain / stage for field, stage in contender.starts.items()}
        steps = job.steps
        fields: dict[str, Any] = {"steps": steps, "seed": job.seed}
        fields["optimizer.warmup_steps"] = max(1, round(WARM_UP * steps)) if steps > 1 else 0
        if job.use == "vqa":
            # Answering needs no tokenizer of images.
            fields["init_from"] = folder_of(self._workdir, job.equal, job.name, job.seed)
            return {**fields, **self._plan.settings}
        shares = {field: max(1, round(share * steps)) for field, share in contender.shares.items()}
        fields |= {"init_from": "none", **starts, **contender.settings, **shares}
        if not job.use:
            fields["evals.curve.every_steps"] = max(1, steps // (CURVES - 1))
            return {**fields, **self._plan.settings}
        fields["mode"] = "eval"
        some = f"('train[:{self._plan.drawings}]',)"
        for name in ("some_vectors", "some_pairs"):
            if self._has(contender, name):
                fields[f"evals.{name}.splits"] = some
        if self._has(contender, "some_pairs") and self._has(contender, "some_vectors"):
            fields["evals.some_vectors.rerank_top_k"] = min(TOP_K, self._plan.drawings)
        return {**fields, **self._plan.settings}

    def _has(self, contender: Contender, evaluation: str) -> bool:
        """Whether the recipe of a contender scores it so."""
        return evaluation in read_config(f"{RECIPES}:{contender.recipe},score", {}).evals


def is_trained(folder: pathlib.Path) -> bool:
    """Whether the run in a folder is finished."""
    return (folder / f"{TRAINED}_{DONE}").exists()


def read_scores(folder: pathlib.Path) -> dict[str, float]:
    """What the results in a folder say.

    Args:
        folder: a work folder.

    Returns:
        "EVALUATION/METRIC" -> the last value.
    """
    file = folder / "results.jsonl"
    if not file.exists():
        return {}
    scores: dict[str, float] = {}
    for line in file.read_text().splitlines():
        result = json.loads(line)
        for metric, value in result["metrics"].items():
            scores[f"{result['evaluation']}/{metric}"] = value
    return scores
