"""VLMo beside the systems it is compared with, trained on the same data at equal pairs and at
equal time; and the claims of the papers, in small.

    python -m vlmo_jax.systems [--hours=2] [--seeds=3] [--chain=runs/chain]
    python -m vlmo_jax.systems --claims

A few steps of each system are timed first (the machine should do nothing else), and the plan is
printed: the steps are as many as fit into --hours, unless --steps says. What is trained is the
recipes of configs/systems.py. Every run has a folder in --workdir; tables go to systems.md
(claims.md), the page to systems.png (claims.png). Stopped anywhere, the same command goes on.
`--claims` takes the steps of the plan that is there, and what has been trained of it.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

from vlmo_jax.commands.config_errors import refusing_values
from vlmo_jax.commands.endings import UserError, told_in_one_line
from vlmo_jax.commands.paths import user_path
from vlmo_jax.experiments import chain as chains
from vlmo_jax.experiments.contenders import CLAIMS, CONTENDERS, SYSTEMS
from vlmo_jax.experiments.measure import Measured, read_measured
from vlmo_jax.experiments.runs import add_workdir_and_settings, read_settings, run_recipe
from vlmo_jax.experiments.system_runs import (
    PAIRS,
    REFERENCE,
    TIME,
    Job,
    Plan,
    Runner,
    list_jobs,
    num_params,
    steps_within,
)
from vlmo_jax.experiments.systems_report import write_report
from vlmo_jax.reports.metrics import announce

NEEDED = chains.STAGES[:3]  # tokenizer, stage 1 and stage 2, which some start from
OF_IMAGES = ("tokenizer", "stage1")  # those that see drawings
LEARNED = "train[1260:]"  # those that no system is scored on, as in configs/systems.py


class MeasureError(UserError):
    """A system could not be measured."""


class OtherPlanError(UserError, ValueError):
    """The work folder was planned with other settings."""


def measure_all(
    names: Iterable[str], workdir: pathlib.Path, chain: pathlib.Path, settings: Mapping[str, str]
) -> dict[str, Measured]:
    """What each system costs here, each measured once, in a process of its own.

    Args:
        names: of SYSTEMS.
        workdir: of the comparison.
        chain: folder of the stages that some start from.
        settings: config field -> value, of all runs.

    Returns:
        System -> Measured.

    Raises:
        MeasureError: one failed, for the reason above.
    """
    folder = workdir / "measured"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in dict.fromkeys(CONTENDERS[name].like for name in names):
        file = folder / f"{name}.json"
        if not file.exists():
            contender = SYSTEMS[name]
            announce(f"Timing {contender.title}")
            starts = {field: chain / stage for field, stage in contender.starts.items()}
            fields = {"init_from": "none", **starts, **contender.settings, **settings}
            command = [sys.executable, "-m", "vlmo_jax.experiments.measure"]
            command += [f"systems:{contender.recipe}", str(file)]
            command += [f"{field}={value}" for field, value in fields.items()]
            if subprocess.run(command, check=False).returncode:
                raise MeasureError(f"timing {contender.title} failed, for the reason above")
        found[name] = read_measured(file)
    return found


def run_stages(
    workdir: pathlib.Path, chain: pathlib.Path | None, steps: int | None
) -> pathlib.Path:
    """The folder of the stages that some start from, which are trained where none is given.

    Args:
        workdir: of the comparison.
        chain: folder of `python -m vlmo_jax.chain`; None: they are trained here.
        steps: of each; None: those of their recipes.

    Raises:
        MissingStageError: a folder without a stage was given.
        RunStoppedError: a stage failed or was stopped.
    """
    folder = chain or workdir / "chain"
    for stage in NEEDED:
        if chain is not None:
            if not (folder / stage.name / "checkpoints").is_dir():
                raise MissingStageError(
                    f"--chain={chain} has no {stage.name}/checkpoints; give the work folder of"
                    " `python -m vlmo_jax.chain`, or leave --chain out to train its stages here"
                )
            continue
        done = folder / stage.name / "stage_done"
        if not done.exists():
            announce(f"\n{stage.title}, which some systems start from")
            fields: dict = {field: folder / start for field, start in stage.starts.items()}
            if stage.name in OF_IMAGES:
                fields["data.split"] = LEARNED
            if steps is not None:
                fields |= {"steps": steps, "optimizer.warmup_steps": min(1, steps - 1)}
            run_recipe(chains.stage_recipe(stage, None), folder / stage.name, fields)
            done.touch()
    return folder


class MissingStageError(UserError, FileNotFoundError):
    """A chain lacks a stage that some systems start from."""


def make_plan(
    arguments: argparse.Namespace,
    settings: Mapping[str, str],
    names: Sequence[str],
    measured: Mapping[str, Measured],
) -> Plan:
    """The plan of the work folder, made at the first start and kept.

    Args:
        arguments: of the command.
        settings: config field -> value, of all runs.
        names: of SYSTEMS.
        measured: system -> what it costs.

    Raises:
        OtherPlanError: the folder has one with other settings.
    """
    file = arguments.workdir / "plan.json"
    asked = {"seeds": arguments.seeds, "drawings": arguments.drawings, "settings": dict(settings)}
    if file.exists():
        plan = Plan(**json.loads(file.read_text()))
        asked |= {} if arguments.steps is None else {"steps": arguments.steps}
        for name, value in asked.items():
            if (kept := getattr(plan, name)) != value:
                raise OtherPlanError(
                    f"{file} was planned with {name}={kept}, not {value}; give the same arguments,"
                    " or another --workdir"
                )
        return plan
    steps = arguments.steps or steps_within(
        3600 * arguments.hours, names, measured, arguments.seeds, arguments.drawings
    )
    plan = Plan(steps=steps, answer_steps=steps, **asked)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(dataclasses.asdict(plan), indent=2) + "\n")
    os.replace(partial, file)
    return plan


def describe_plan(
    jobs: Sequence[Job], left: Sequence[Job], measured: Mapping[str, Measured], plan: Plan
) -> str:
    """What will be done, and how long it takes.

    Args:
        jobs: all of them.
        left: those that are not done yet.
        measured: system -> what it costs.
        plan: of the comparison.
    """
    lines = [
        f"{'':24}{'parameters':>12}{'MFLOPs a pair':>15}{'ms a step':>11}{'steps':>14}"
        f"{'minutes':>9}"
    ]
    for name in dict.fromkeys(job.name for job in jobs):
        own = [job for job in jobs if job.name == name]
        cost = measured[CONTENDERS[name].like]
        steps = dict.fromkeys(f"{job.steps:,}" for job in own if not job.use)
        lines.append(
            f"{CONTENDERS[name].title:24}{num_params(CONTENDERS[name]):>12,}"
            f"{cost.flops / 1e6:>15,.0f}"
            f"{1000 * cost.step_seconds:>11,.0f}{' / '.join(steps):>14}"
            f"{sum(job.seconds for job in own) / 60:>9.1f}"
        )
    total = sum(job.seconds for job in left)
    lines.append(
        f"{len(jobs)} processes, {plan.seeds} seeds, {plan.steps:,} steps where pairs are equal and"
        f" as many as VLMo's time allows where time is; {len(left)} are left: about"
        f" {total / 60:.0f} minutes"
    )
    return "\n".join(lines)


def run_jobs(jobs: Sequence[Job], runner: Runner) -> None:
    """Makes what is not done yet, and says how long the rest will take.

    Args:
        jobs: in this order.
        runner: makes them.

    Raises:
        RunStoppedError: one failed or was stopped.
    """
    left = [job for job in jobs if not runner.is_done(job)]
    start, estimated = time.monotonic(), 0.0
    for number, job in enumerate(left):
        runner.run(job)
        estimated += job.seconds
        pace = (time.monotonic() - start) / max(estimated, 1e-9)
        rest = pace * sum(other.seconds for other in left[number + 1 :])
        announce(f"{number + 1} of {len(left)} done; about {rest / 60:.0f} minutes left")


@told_in_one_line()
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the comparison of a command line, then writes its tables and its page.

    Args:
        argv: the arguments; None: those of this process.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    for name in ("seeds", "drawings", "steps", "chain_steps"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            parser.error(f"--{name}={value} must be at least 1")
    systems = tuple(arguments.systems.split(","))
    if unknown := [name for name in systems if name not in SYSTEMS]:
        parser.error(
            f"--systems={arguments.systems}: {unknown[0]!r} is none of {', '.join(SYSTEMS)}"
        )
    if REFERENCE not in systems:
        parser.error(f"--systems={arguments.systems} lacks {REFERENCE}, whose time all are given")
    workdir = arguments.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    with refusing_values():
        settings = read_settings(arguments.set)
        chain = run_stages(workdir, arguments.chain, arguments.chain_steps)
        claimed = tuple(dict.fromkeys(name for claim in CLAIMS for name in claim.contenders))
        measured = measure_all(claimed if arguments.claims else systems, workdir, chain, settings)
        plan = make_plan(arguments, settings, systems, measured)
        if arguments.claims:
            jobs = list_jobs(claimed, plan, measured, equals=(PAIRS,), answers=False)
        else:
            jobs = list_jobs(systems, plan, measured, equals=(PAIRS, TIME))
        runner = Runner(workdir, chain, plan)
        left = [job for job in jobs if not runner.is_done(job)]
        announce("\n" + describe_plan(jobs, left, measured, plan))
        if arguments.plan:
            return
        run_jobs(jobs, runner)
    text = write_report(workdir, plan, measured, claims=arguments.claims)
    name = "claims" if arguments.claims else "systems"
    announce(
        f"\n{text}\n\nThe tables are in {workdir / f'{name}.md'}, the page is"
        f" {workdir / f'{name}.png'}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.systems",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--claims", action="store_true", help="the papers' claims, in small")
    parser.add_argument("--plan", action="store_true", help="say what would be done, and end")
    add_workdir_and_settings(parser, "runs/systems")
    parser.add_argument(
        "--systems",
        default=",".join(SYSTEMS),
        help="which, with commas between (default: %(default)s)",
    )
    parser.add_argument(
        "--chain", type=user_path, help="work folder of the chain; default: its stages run here"
    )
    parser.add_argument("--chain_steps", type=int, help="of each stage that runs here")
    parser.add_argument(
        "--hours", type=float, default=1.8, help="for all systems, the chain's stages not counted"
    )
    parser.add_argument("--steps", type=int, help="of the runs with equal pairs, not by --hours")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument(
        "--drawings",
        type=int,
        default=200,
        help="that are searched by scoring every pair (default: %(default)s)",
    )
    return parser
