"""What `python -m vlmo_jax.systems` writes: Markdown tables and a page."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from vlmo_jax.experiments.contenders import CLAIMS, CONTENDERS, SYSTEMS
from vlmo_jax.experiments.measure import Measured
from vlmo_jax.experiments.summary_page import Section, summary_page
from vlmo_jax.experiments.system_runs import (
    PAIRS,
    TIME,
    Plan,
    folder_of,
    is_trained,
    read_scores,
    steps_of,
)
from vlmo_jax.reports.bars import draw_bars
from vlmo_jax.reports.curves import compare_recalls

# Metric -> the scores that are it, of which a contender has the first that it has.
METRICS = {
    "whole artist, by vectors": ("vectors/mean_recall",),
    "some, by vectors": ("some_vectors/mean_recall",),
    "some, re-ranked": ("some_vectors/reranked_mean_recall",),
    "some, every pair": ("some_pairs/mean_recall",),
    "right or wrong caption": ("choice_by_pairs/accuracy", "choice_by_vectors/accuracy"),
    "questions": ("vqa/accuracy",),
}
Values = Mapping[str, Sequence[float]]  # metric -> a value a seed


def collect(workdir: pathlib.Path, equal: str, name: str, seeds: int) -> dict[str, list[float]]:
    """The scores of a contender.

    Args:
        workdir: of the comparison.
        equal: PAIRS or TIME.
        name: of CONTENDERS.
        seeds: runs there may be.

    Returns:
        Metric of METRICS -> a value a run that has it.
    """
    found: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for seed in range(seeds):
        folder = folder_of(workdir, equal, name, seed)
        scores = read_scores(folder)
        if equal == PAIRS:
            scores |= read_scores(folder.with_name(f"{folder.name}_vqa"))
        for metric, names in METRICS.items():
            value = next((scores[name] for name in names if name in scores), None)
            if value is not None:
                found[metric].append(value)
    return found


def cell(values: Sequence[float]) -> str:
    """Mean and deviation in percent; nothing where nothing was measured."""
    if not values:
        return ""
    scaled = 100 * np.asarray(values)
    spread = f" ± {scaled.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{scaled.mean():.1f}{spread}"


def systems_table(
    workdir: pathlib.Path, equal: str, plan: Plan, measured: Mapping[str, Measured]
) -> str:
    """A Markdown table: a row a system.

    Args:
        workdir: of the comparison.
        equal: PAIRS or TIME.
        plan: of it.
        measured: system -> what it costs.
    """
    costs = ("parameters", "MFLOPs a pair", "ms a step", "steps", "a search")
    lines = [
        f"| equal {equal} | " + " | ".join([*costs, *METRICS]) + " |",
        "|---" * (1 + len(costs) + len(METRICS)) + "|",
    ]
    for name, contender in SYSTEMS.items():
        if contender.like not in measured:
            continue
        cost = measured[contender.like]
        values = collect(workdir, equal, name, plan.seeds)
        cells = [
            f"{cost.params / 1e6:.2f} M",
            f"{cost.flops / 1e6:,.0f}",
            f"{1000 * cost.step_seconds:.0f}",
            f"{steps_of(name, equal, plan, measured):,}",
            f"{_milliseconds(cost.search_seconds)} ms",
            *(cell(values[metric]) for metric in METRICS),
        ]
        lines.append(f"| {contender.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _milliseconds(seconds: float) -> str:
    """Three digits, or all before the point."""
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def claims_table(workdir: pathlib.Path, seeds: int) -> str:
    """A Markdown table: a row a contender of each claim, the claimed one last.

    Args:
        workdir: of the comparison.
        seeds: runs of each.
    """
    lines = ["| claim | | " + " | ".join(METRICS) + " |", "|---" * (2 + len(METRICS)) + "|"]
    for claim in CLAIMS:
        for place, name in enumerate(claim.contenders):
            values = collect(workdir, PAIRS, name, seeds)
            cells = [cell(values[metric]) for metric in METRICS]
            first = claim.title if not place else ""
            lines.append(f"| {first} | {CONTENDERS[name].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_report(
    workdir: pathlib.Path, plan: Plan, measured: Mapping[str, Measured], *, claims: bool
) -> str:
    """Writes the tables, `systems.md` or `claims.md`, and the page, a picture of the same name.

    Args:
        workdir: of the comparison.
        plan: of it.
        measured: system -> what it costs.
        claims: whether the claims are told, not the systems.

    Returns:
        The tables.
    """
    name = "claims" if claims else "systems"
    pages = workdir / f"{name}_parts"
    pages.mkdir(exist_ok=True)
    head = (
        f"Mean recall (R@1, 5, 10, both ways) and accuracy in %, mean and deviation of {plan.seeds}"
        f' seeds. "Whole artist": its 1,260 drawings; "some": the first {plan.drawings} of them.'
    )
    if claims:
        tables = [claims_table(workdir, plan.seeds)]
        sections = [_bars(claim.title, claim.contenders, PAIRS, workdir, plan) for claim in CLAIMS]
    else:
        tables = [systems_table(workdir, equal, plan, measured) for equal in (PAIRS, TIME)]
        sections = []
        for equal in (PAIRS, TIME):
            sections.append(_bars(f"Equal {equal}", tuple(SYSTEMS), equal, workdir, plan))
            sections.append(_curves(equal, workdir, plan))
    text = "\n\n".join([head, *tables])
    (workdir / f"{name}.md").write_text(text + "\n")
    summary_page([s for s in sections if s is not None], workdir / f"{name}.png")
    return text


def _bars(title, names, equal, workdir, plan):
    """A section of bars, a panel a metric that any of the contenders has."""
    values = {name: collect(workdir, equal, name, plan.seeds) for name in names}
    panels = {
        metric: {CONTENDERS[name].title: values[name][metric] for name in names}
        for metric in METRICS
        if any(values[name][metric] for name in names)
    }
    if not panels:
        return None
    slug = "".join(c if c.isalnum() else "_" for c in title.lower())
    png = workdir / ("claims_parts" if title[:5] != "Equal" else "systems_parts") / f"{slug}.png"
    draw_bars(panels, png)
    return Section(title, [png])


def _curves(equal, workdir, plan):
    """A section of recalls on the way."""
    files = {}
    for name, contender in SYSTEMS.items():
        runs = [folder_of(workdir, equal, name, seed) for seed in range(plan.seeds)]
        found = [run / "metrics.jsonl" for run in runs if is_trained(run)]
        if found:
            files[contender.title] = found
    if not files:
        return None
    png = workdir / "systems_parts" / f"curves_{equal}.png"
    compare_recalls(files, png)
    return Section(f"Equal {equal}: search of unseen concepts on the way", [png])
