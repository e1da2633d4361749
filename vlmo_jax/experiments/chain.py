"""All stages as one chain, each starting from what the one before left.

    python -m vlmo_jax.chain [--size=base] [--workdir=DIR] [--set=stage2.steps=100 ...]

tokenizer  a discrete VAE whose codes stage 1 predicts
stage1     masked image modelling on images
stage2     masked language modelling on texts, attention and image parts frozen
stage3     contrast, matching and masked language modelling on pairs, then retrieval

Each has a folder in DIR, as its recipe alone would fill it; DIR/summary.png shows all of them.
Stopped anywhere, the same command goes on. With --size=base, base_plus or large the tokenizer is of
DALL-E's size. The chain is for one machine: on a pod run the recipes themselves.
"""

import argparse
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vlmo_jax.commands.command_line import read_config
from vlmo_jax.commands.config_errors import ConfigError, refusing_values
from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.paths import user_path
from vlmo_jax.experiments.runs import RunStoppedError, Usage, run_recipe
from vlmo_jax.experiments.summary_page import Section, summary_page
from vlmo_jax.recipes import Recipe
from vlmo_jax.reports.metrics import announce, read_metrics


class Stage(NamedTuple):
    """A recipe of the chain.

    `starts` maps config fields to the stages whose work folders they name; `pages` are its
    pictures.
    """

    name: str
    title: str
    config: str
    starts: dict[str, str]
    pages: tuple[str, ...]


Settings = dict[str, dict[str, Any]]  # stage name -> {config field: value}
# Stage name -> {"seconds", "peak_bytes"}: the seconds of all its starts, the memory of the largest.
StageUsage = dict[str, dict[str, float]]


# What version 0.1 called some pictures.
EARLIER_PAGES = {"reconstruction.png": "reconstructions.png", "masked_text.png": "fill_in.png"}

STAGES = (
    Stage(
        "tokenizer",
        "Visual tokenizer",
        "visual_tokenizer",
        {},
        ("curves.png", "reconstruction.png"),
    ),
    Stage(
        "stage1",
        "Stage 1, images",
        "stage1",
        {"visual_tokenizer": "tokenizer"},
        ("curves.png", "masked_images.png"),
    ),
    Stage(
        "stage2",
        "Stage 2, texts",
        "stage2",
        {"init_from": "stage1"},
        ("curves.png", "masked_text.png"),
    ),
    Stage(
        "stage3",
        "Stage 3, pairs",
        "stage3",
        {"init_from": "stage2"},
        ("curves.png", "retrieval.png"),
    ),
)


def read_settings(settings: Sequence[str]) -> Settings:
    """Settings by stage.

    Args:
        settings: each "STAGE.FIELD=VALUE".

    Returns:
        Stage name -> {field: value}, for every stage.

    Raises:
        ValueError: a setting of another form, or of no stage.
    """
    names = [stage.name for stage in STAGES]
    found: Settings = {name: {} for name in names}
    for setting in settings:
        match = re.fullmatch(r"(\w+)\.([\w.]+)=(.*)", setting, re.DOTALL)
        if match is None or match[1] not in found:
            raise ValueError(
                f"--set={setting} is not STAGE.FIELD=VALUE with a STAGE of {', '.join(names)}"
            )
        found[match[1]][match[2]] = match[3]
    return found


def stage_recipe(stage: Stage, size: str | None) -> str:
    """The recipe of a stage with its argument.

    Stage 1 at a size of the paper needs the codes of the tokenizer at DALL-E's.

    Args:
        stage: one of STAGES.
        size: argument of the recipes of stages 1 to 3, or None.

    Returns:
        What --config is given, such as "stage3:base".
    """
    if stage.name == "tokenizer":
        size = size and ("tiny" if size.startswith("tiny") else "dalle")
    return stage.config + (f":{size}" if size else "")


def run_chain(
    workdir: pathlib.Path, *, size: str | None = None, settings: Sequence[str] = ()
) -> StageUsage:
    """Runs all stages.

    Args:
        workdir: where everything goes.
        size: argument of the recipes of stages 1 to 3, or None.
        settings: see `read_settings`.

    Returns:
        What each stage took in this and earlier starts.

    Raises:
        ValueError: a setting of another form, or of no stage or field, an unknown size, or a stage
            that is not told what to read; no stage has run then.
        RunStoppedError: a stage failed or was stopped.
    """
    by_stage = read_settings(settings)
    recipes = {stage.name: stage_recipe(stage, size) for stage in STAGES}
    for stage in STAGES:
        starts = {field: workdir / start for field, start in stage.starts.items()}
        by_stage[stage.name] = {**starts, **by_stage[stage.name]}
    _check_inputs({name: read_config(recipe, by_stage[name]) for name, recipe in recipes.items()})
    workdir.mkdir(parents=True, exist_ok=True)
    record = workdir / "chain.json"
    usage: StageUsage = json.loads(record.read_text()) if record.exists() else {}
    for number, stage in enumerate(STAGES, start=1):
        announce(f"\n{stage.title} ({number} of {len(STAGES)})")
        try:
            taken = run_recipe(recipes[stage.name], workdir / stage.name, by_stage[stage.name])
        except RunStoppedError as stopped:
            _add_usage(usage, stage.name, stopped.usage, record)
            raise
        _add_usage(usage, stage.name, taken, record)
    return usage


def _check_inputs(configs: Mapping[str, ConfigDict]) -> None:
    """Refuses stages that are not told what to read."""
    for name, config in configs.items():
        try:
            Recipe(config).check_inputs()
        except ConfigError as error:
            raise ValueError(f"{error}; here it is --set={name}.FIELD=VALUE") from error


def _add_usage(usage: StageUsage, name: str, taken: Usage, record: pathlib.Path) -> None:
    """Adds what a start of a stage took, also to the file."""
    before = usage.get(name, {"seconds": 0.0, "peak_bytes": 0})
    usage[name] = {
        "seconds": before["seconds"] + taken.seconds,
        "peak_bytes": max(before["peak_bytes"], taken.peak_bytes),
    }
    partial = record.with_suffix(".partial")
    partial.write_text(json.dumps(usage, indent=2) + "\n")
    os.replace(partial, record)


def describe_stage(stage: Stage, workdir: pathlib.Path, usage: StageUsage) -> str:
    """One line about a stage: the loss at the start and the end, time and memory.

    Args:
        stage: one of STAGES, which has run.
        workdir: of the chain.
        usage: what `run_chain` returns.
    """
    losses = read_metrics(workdir / stage.name / "metrics.jsonl")["train/loss"][1]
    taken = usage[stage.name]
    return (
        f"{stage.title}: loss {losses[0]:.3f} to {losses[-1]:.3f}, {taken['seconds'] / 60:.1f} min,"
        f" {taken['peak_bytes'] / 2**30:.1f} GiB"
    )


@told_in_one_line()
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the chain of a command line, then draws its summary.

    Args:
        argv: the arguments; None: those of this process.
    """
    arguments = _parser().parse_args(argv)
    workdir = arguments.workdir
    with refusing_values():
        usage = run_chain(workdir, size=arguments.size, settings=arguments.set)
    sections = []
    for stage in STAGES:
        names = [name for page in stage.pages for name in (page, EARLIER_PAGES.get(page, page))]
        pages = [workdir / stage.name / name for name in dict.fromkeys(names)]
        # Without a split to evaluate a stage has no picture but its curves.
        drawn = [page for page in pages if page.exists()]
        sections.append(Section(describe_stage(stage, workdir, usage), drawn))
    summary_page(sections, workdir / "summary.png")
    minutes = sum(taken["seconds"] for taken in usage.values()) / 60
    lines = "\n".join(section.title for section in sections)
    announce(
        f"\n{lines}\nAll stages: {minutes:.1f} minutes. The summary is {workdir / 'summary.png'}\n"
        "Next: what the chain is worth,"
        f" python -m vlmo_jax.compare --init_from={workdir / 'stage2'}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.chain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--size",
        help="argument of the recipes of stages 1 to 3, such as base; default: the small ones",
    )
    parser.add_argument(
        "--workdir",
        type=user_path,
        default=pathlib.Path("runs/chain"),
        help="where everything goes",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="STAGE.FIELD=VALUE",
        help="a setting of one stage's config",
    )
    return parser
