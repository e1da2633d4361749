"""What a start is worth: one recipe from random parameters and from a checkpoint, at the same
number of steps.

    python -m vlmo_jax.compare --init_from=runs/chain/stage2 [--config=configs/stage3.py] [--seeds=3] [--set=steps=350 ...]

Every run has a folder in --workdir; the table of results goes to the console and to comparison.md
there, the losses to comparison.png. Stopped anywhere, the same command goes on.
"""

import argparse
import pathlib
import sys

import numpy as np

from vlmo_jax.checkpoints.store import find_checkpoint
from vlmo_jax.experiments.runs import RunStopped, run_recipe
from vlmo_jax.reports.curves import compare_losses
from vlmo_jax.reports.metrics import announce, read_metrics

SHOWN = ("recall_at_1", "recall_at_10", "mean_recall")


def read_settings(settings):
    """Settings "FIELD=VALUE" as a mapping.

    Raises:
        ValueError: a setting of another form.
    """
    pairs = [setting.partition("=") for setting in settings]
    for field, equals, value in pairs:
        if not (field and equals):
            raise ValueError(f"--set={field}{equals}{value} is not FIELD=VALUE")
    return {field: value for field, _, value in pairs}


def run_all(config, init_from, seeds, workdir, settings):
    """Runs the recipe from both starts with every seed.

    Returns:
        dict start -> list of work folders, by seed.

    Raises:
        FileNotFoundError: there is no checkpoint; nothing has run then.
        RunStopped: a run failed or was stopped.
    """
    find_checkpoint(init_from)
    starts = {"random parameters": ("scratch", "none"), str(init_from): ("checkpoint", init_from)}
    folders = {start: [] for start in starts}
    for seed in range(seeds):
        for start, (name, path) in starts.items():
            folder = workdir / f"{name}_seed{seed}"
            announce(f"\nFrom {start}, seed {seed}")
            run_recipe(config, folder, {**settings, "seed": seed, "init_from": path})
            folders[start].append(folder)
    return folders


def last_values(folder):
    """The last value of each loss and retrieval score of a run, and the step it ended at.

    Losses are the means since the log line before.
    """
    series = read_metrics(folder / "metrics.jsonl")
    kept = {
        name: values[-1]
        for name, (_, values) in series.items()
        if name.startswith("train/")
        and name.endswith("loss")
        or name.startswith("eval/")
        and name.endswith(SHOWN)
    }
    return kept, int(max(steps[-1] for steps, _ in series.values()))


def format_table(results):
    """A Markdown table: a row a metric, mean and standard deviation over the seeds for each start.

    Args:
        results: dict start -> list of mappings metric -> value.
    """
    starts = list(results)
    lines = [
        "| | " + " | ".join(f"from {start}" for start in starts) + " |",
        "|---" * (len(starts) + 1) + "|",
    ]
    for name in results[starts[0]][0]:
        percent = not name.endswith("loss")
        cells = []
        for start in starts:
            values = np.asarray([run[name] for run in results[start]]) * (100 if percent else 1)
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            cells.append(f"{values.mean():.2f} ± {spread:.2f}" + (" %" if percent else ""))
        lines.append(
            f"| {name.partition('/')[2].replace('_', ' ').replace('/', ', ')} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--init_from",
        type=pathlib.Path,
        required=True,
        help="work folder or checkpoint of the second start",
    )
    parser.add_argument("--config", default="configs/stage3.py", help="recipe of all runs")
    parser.add_argument(
        "--seeds", type=int, default=3, help="runs from each start, with seeds 0, 1, ..."
    )
    parser.add_argument(
        "--workdir",
        type=pathlib.Path,
        default=pathlib.Path("runs/compare"),
        help="where everything goes",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a setting of every run's config",
    )
    arguments = parser.parse_args(argv)
    if arguments.seeds < 1:
        parser.error(f"--seeds={arguments.seeds} must be at least 1")
    config, workdir = arguments.config, arguments.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    try:
        folders = run_all(
            config, arguments.init_from, arguments.seeds, workdir, read_settings(arguments.set)
        )
    except (FileNotFoundError, ValueError, RunStopped) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(getattr(error, "status", 1))
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
