"""What fusion is worth: a fused encoder, the same without a look at the images, and a dual encoder
with a head on its vectors, fine-tuned alike on questions and on statements.

    python -m vlmo_jax.fusion --init_from=runs/stage3 [--tasks=vqa,nlvr2] [--set=steps=300 ...]

All start from one checkpoint of stage 3 and take the same steps; where questions are compared too,
each learns the statements after them, from its own run. Beside them stands what is scored without a
model: the answer that is most frequent in the training data, of all and of those to the same words.
Every run has a folder in --workdir; the table goes to the console and to fusion.md there, the
pictures of all runs to fusion.png. Stopped anywhere, the same command goes on.
"""

import argparse
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vlmo_jax.checkpoints.saved_params import find_checkpoint
from vlmo_jax.commands.command_line import read_config
from vlmo_jax.commands.config_errors import refusing_values
from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.datasets.sources import BLANK_PREFIX, EMBEDDED_PREFIX, open_records
from vlmo_jax.evals.guesses import guess_questions, guess_statements
from vlmo_jax.experiments.runs import add_arguments, read_settings, run_recipe
from vlmo_jax.experiments.summary_page import Section, summary_page
from vlmo_jax.recipes import Recipe
from vlmo_jax.reports.curves import compare_losses
from vlmo_jax.reports.metrics import announce, read_metrics

SPLITS = ("validation", "unseen_artist")  # to choose by, and to report


class Comparison(NamedTuple):
    """A task on which models are compared.

    Attributes:
        title: in the table.
        shown: metrics of its evaluation.
        guess: function of the training records and those of a split that gives the metrics of
            guesses.
        after: the task that is learned before, where it is compared too.
    """

    title: str
    shown: tuple[str, ...]
    guess: Callable[[Sequence, Sequence], dict[str, dict[str, float]]]
    after: str = ""


COMPARISONS = {
    "vqa": Comparison(
        "Questions",
        ("accuracy", "accuracy_yes_no", "accuracy_number", "accuracy_other"),
        guess_questions,
    ),
    "nlvr2": Comparison("Statements", ("accuracy", "consistency"), guess_statements, after="vqa"),
}


class Contender(NamedTuple):
    """A model that is compared.

    Attributes:
        title: in the table.
        argument: of the recipe.
        blank: whether its images are all grey.
    """

    title: str
    argument: str
    blank: bool = False


CONTENDERS = {
    "fused": Contender("fused encoder", "tiny"),
    "dual": Contender("dual encoder, head on its vectors", "tiny_dual"),
    "blind": Contender("fused encoder, no images", "tiny", blank=True),
}

Scores = Mapping[str, float]  # "SPLIT/METRIC" -> share


def run_contender(
    task: str, name: str, workdir: pathlib.Path, settings: Mapping[str, Any]
) -> tuple[Scores, int]:
    """Trains and scores one model.

    Args:
        task: of COMPARISONS.
        name: of CONTENDERS.
        workdir: folder of the run.
        settings: config field -> value, `init_from` among them.

    Returns:
        Its scores at the last step, and the FLOPs of a training example.

    Raises:
        ValueError: a setting is impossible.
        RunStoppedError: the run failed or was stopped.
    """
    contender = CONTENDERS[name]
    recipe = f"configs/finetune_{task}.py:{contender.argument}"
    source = str(read_config(recipe, settings).data.source)
    if contender.blank:
        source = BLANK_PREFIX + source
    prefix = f"eval/{task}/{pathlib.Path(source.removeprefix(EMBEDDED_PREFIX)).name}_"
    fields = {
        f"evals.{task}.splits": str(SPLITS),
        "checkpoint.best_metric": f"{prefix}{SPLITS[0]}/accuracy",
        **settings,
        "data.source": source,  # grey for one of them, whatever is set
    }
    config = read_config(recipe, fields)
    announce(f"\n{COMPARISONS[task].title}: {contender.title}")
    run_recipe(recipe, workdir, fields)
    series = read_metrics(workdir / "metrics.jsonl")
    scores = {
        name.removeprefix(prefix): values[-1]
        for name, (_, values) in series.items()
        if name.startswith(prefix)
    }
    return scores, Recipe(config).task.forward_flops()


def guesses(task: str, settings: Mapping[str, Any]) -> Mapping[str, Scores]:
    """Scores what needs no model.

    Args:
        task: of COMPARISONS.
        settings: config field -> value.

    Returns:
        Kind of guess -> scores, as of `run_contender`.
    """
    data = read_config(f"configs/finetune_{task}.py", settings).data
    train = open_records(data.source, data.split)
    found: dict[str, dict[str, float]] = {}
    for split in SPLITS:
        by_kind = COMPARISONS[task].guess(train, open_records(data.source, split))
        for kind, scores in by_kind.items():
            named = {f"{split}/{metric}": value for metric, value in scores.items()}
            found.setdefault(kind, {}).update(named)
    return found


def format_table(task: str, rows: Mapping[str, Scores], flops: Mapping[str, int]) -> str:
    """A Markdown table: a row a model or guess.

    Args:
        task: of COMPARISONS.
        rows: title -> scores.
        flops: title -> of a training example; guesses have none.

    Returns:
        The table.
    """
    shown = COMPARISONS[task].shown
    columns = [(split, metric) for split in SPLITS for metric in shown]
    words = [f"{split}, {metric}".replace("_", " ") for split, metric in columns]
    lines = [
        f"| {COMPARISONS[task].title} | " + " | ".join(words) + " | MFLOPs |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for title, scores in rows.items():
        cells = [_percent(scores.get(f"{split}/{metric}")) for split, metric in columns]
        cost = f"{flops[title] / 1e6:,.0f}" if title in flops else ""
        lines.append(f"| {title} | " + " | ".join(cells) + f" | {cost} |")
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


@told_in_one_line()
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the comparison of a command line, then writes its table and its page.

    Args:
        argv: the arguments; None: those of this process.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    tasks = arguments.tasks.split(",")
    if unknown := [task for task in tasks if task not in COMPARISONS]:
        parser.error(
            f"--tasks={arguments.tasks}: {unknown[0]!r} is none of {', '.join(COMPARISONS)}"
        )
    find_checkpoint(arguments.init_from)
    workdir: pathlib.Path = arguments.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    tables, sections = [], []
    with refusing_values():
        settings = {"init_from": arguments.init_from, **read_settings(arguments.set)}
        for task in [task for task in COMPARISONS if task in tasks]:  # one after what it needs
            after = COMPARISONS[task].after
            table, section = _compare(task, workdir, settings, after if after in tasks else "")
            tables.append(table)
            sections.append(section)
    (workdir / "fusion.md").write_text("\n\n".join(tables) + "\n")
    summary_page(sections, workdir / "fusion.png")
    announce("\n" + "\n\n".join(tables))
    announce(f"\nThe tables are in {workdir / 'fusion.md'}, pictures in {workdir / 'fusion.png'}")


def _compare(
    task: str, workdir: pathlib.Path, settings: Mapping[str, Any], after: str
) -> tuple[str, Section]:
    """Compares on one task, which each learns after its own run of another; "": all start from the
    same. Returns the table, and the pictures.
    """
    rows: dict[str, Scores] = {}
    flops: dict[str, int] = {}
    folders = {name: _folder(workdir, task, name) for name in CONTENDERS}
    for name, folder in folders.items():
        title = CONTENDERS[name].title
        start = {"init_from": _folder(workdir, after, name)} if after else {}
        rows[title], flops[title] = run_contender(task, name, folder, {**settings, **start})
    rows |= guesses(task, settings)
    curves = workdir / f"{task}_losses.png"
    compare_losses(
        {CONTENDERS[name].title: [f / "metrics.jsonl"] for name, f in folders.items()}, curves
    )
    pages = [curves, folders["fused"] / f"{task}.png"]
    best = rows[CONTENDERS["fused"].title].get(f"{SPLITS[1]}/accuracy")
    title = f"{COMPARISONS[task].title}: losses, and what the fused encoder says ({_percent(best)})"
    return format_table(task, rows, flops), Section(title, [p for p in pages if p.exists()])


def _folder(workdir: pathlib.Path, task: str, name: str) -> pathlib.Path:
    return workdir / f"{task}_{name}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.fusion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser, init_from="work folder or checkpoint of stage 3", workdir="runs/fusion")
    parser.add_argument(
        "--tasks",
        default=",".join(COMPARISONS),
        help="what to compare on, with commas between (default: %(default)s)",
    )
    return parser
