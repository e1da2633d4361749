"""What a start is worth: one recipe from random parameters and from a checkpoint, at the same
number of steps.

    python -m vlmo_jax.compare --init_from=runs/chain/stage2 [--config=configs/stage3.py]
        [--seeds=3] [--set=steps=350 ...]

Every run has a folder in --workdir; the table of results goes to the console and to comparison.md
there, the losses to comparison.png. Stopped anywhere, the same command goes on.
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlmo_jax.checkpoints.saved_params import find_checkpoint
from vlmo_jax.commands.config_errors import refusing_values
from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.experiments.runs import add_arguments, read_settings, run_recipe
from vlmo_jax.reports.curves import compare_losses
from vlmo_jax.reports.metrics import announce, read_metrics

SHOWN = ("recall_at_1", "recall_at_10", "mean_recall")


def run_all(
    config: str,
    init_from: pathlib.Path,
    seeds: int,
    workdir: pathlib.Path,
    settings: Mapping[str, Any],
) -> dict[str, list[pathlib.Path]]:
    """Runs the recipe from both starts with every seed.

    Args:
        config: recipe with its argument, such as "stage3:base".
        init_from: work folder or checkpoint of the second start.
        seeds: runs from each start, with seeds 0, 1, ...
        workdir: where the runs go, a folder each.
        settings: config field -> value, of every run.

    Returns:
        Start -> work folders, by seed.

    Raises:
        FileNotFoundError: there is no checkpoint; nothing has run then.
        RunStoppedError: a run failed or was stopped.
    """
    find_checkpoint(init_from)
    starts = {"random parameters": ("scratch", "none"), str(init_from): ("checkpoint", init_from)}
    folders: dict[str, list[pathlib.Path]] = {start: [] for start in starts}
    for seed in range(seeds):
        for start, (name, path) in starts.items():
            folder = workdir / f"{name}_seed{seed}"
            announce(f"\nFrom {start}, seed {seed}")
            run_recipe(config, folder, {**settings, "seed": seed, "init_from": path})
            folders[start].append(folder)
    return folders


def last_values(folder: pathlib.Path) -> tuple[dict[str, float], int]:
    """What a run came to.

    Args:
        folder: its work folder.

    Returns:
        The last value of each loss, which is the mean since the log line before, and of each
        retrieval score; and the step it ended at.
    """
    series = read_metrics(folder / "metrics.jsonl")
    last = max(steps[-1] for steps, _ in series.values())
    # A score that the last evaluation did not write is of another name now.
    kept = {
        name: values[-1]
        for name, (steps, values) in series.items()
        if _is_result(name) and (name.startswith("train/") or steps[-1] == last)
    }
    return kept, int(last)


def _is_result(name: str) -> bool:
    if name.startswith("train/"):
        return name.endswith("loss")
    return name.startswith("eval/") and name.endswith(SHOWN)


def format_table(results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A Markdown table: a row a metric, mean and standard deviation over the seeds for each start.

    Args:
        results: start -> a mapping metric -> value a seed.

    Returns:
        The table.
    """
    starts = list(results)
    lines = [
        "| | " + " | ".join(f"from {start}" for start in starts) + " |",
        "|---" * (len(starts) + 1) + "|",
    ]
    runs = [run for start in starts for run in results[start]]
    # A run of an earlier version has other names for its scores.
    for name in [name for name in runs[0] if all(name in run for run in runs)]:
        cells = [_cell(name, [run[name] for run in results[start]]) for start in starts]
        label = name.partition("/")[2].replace("_", " ").replace("/", ", ")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(name: str, values: Sequence[float]) -> str:
    """Mean and standard deviation of a metric; scores are shares, and shown in percent."""
    factor, unit = (1, "") if name.endswith("loss") else (100, " %")
    scaled = factor * np.asarray(values)
    spread = scaled.std(ddof=1) if len(values) > 1 else 0.0
    return f"{scaled.mean():.2f} ± {spread:.2f}{unit}"


@told_in_one_line()
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the comparison of a command line, then writes its table and its curves.

    Args:
        argv: the arguments; None: those of this process.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.seeds < 1:
        parser.error(f"--seeds={arguments.seeds} must be at least 1")
    config, workdir = arguments.config, arguments.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    with refusing_values():
        folders = run_all(
            config, arguments.init_from, arguments.seeds, workdir, read_settings(arguments.set)
        )
    ends = {start: [last_values(folder) for folder in runs] for start, runs in folders.items()}
    steps = max(step for runs in ends.values() for _, step in runs)
    table = format_table({start: [values for values, _ in runs] for start, runs in ends.items()})
    head = f"{config} after {steps:,} steps, mean and standard deviation of {arguments.seeds} seeds"
    (workdir / "comparison.md").write_text(f"{head}\n\n{table}\n")
    files = {
        start: [folder / "metrics.jsonl" for folder in runs] for start, runs in folders.items()
    }
    compare_losses(files, workdir / "comparison.png")
    announce(
        f"\n{head}\n\n{table}\n\nThe table is in {workdir / 'comparison.md'}, the losses are in"
        f" {workdir / 'comparison.png'}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(
        parser, init_from="work folder or checkpoint of the second start", workdir="runs/compare"
    )
    parser.add_argument("--config", default="configs/stage3.py", help="recipe of all runs")
    parser.add_argument(
        "--seeds", type=int, default=3, help="runs from each start, with seeds 0, 1, ..."
    )
    return parser
