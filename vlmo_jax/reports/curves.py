"""Curves of metrics: those of one run, and of several beside each other."""

import functools
import math
import os
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from vlmo_jax.reports.canvas import DPI, GREY, INK, LIGHT, make_figure
from vlmo_jax.reports.metrics import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = Mapping[str, tuple[np.ndarray, np.ndarray]]  # as `read_metrics` gives it
Draw = Callable[["Axes", Series, str], None]

_COLORS = ("#2563eb", "#d97706", "#059669", "#7c3aed", "#db2777", "#0891b2", "#65a30d")
_RECALL_COLORS = {1: "#1e3a8a", 5: "#3b82f6", 10: "#93c5fd"}
_WAYS: dict[str, Literal["-", "--"]] = {"image_to_text": "-", "text_to_image": "--"}
_LEGEND = {"fontsize": 7, "frameon": False, "labelcolor": GREY, "handlelength": 1.8}


def loss_curves(metrics_file: str | os.PathLike, png: str | os.PathLike) -> None:
    """Draws each loss, the recalls of each evaluation and the learning rate over the steps of a
    run.

    Args:
        metrics_file: a `metrics.jsonl`. `train/*loss` are losses, `train/learning_rate` the rate,
            `eval/<name>/*_recall_at_<k>` recalls from 0 to 1; other metrics are left out.
        png: the file to write.

    Raises:
        ValueError: the file has none of these.
    """
    series = read_metrics(metrics_file)
    recalls = [name.rsplit("/", 1)[0] for name in series if "_recall_at_" in name]
    panels: list[tuple[Draw, str]] = [(_draw_loss, name) for name in _losses(series)]
    panels += [(_draw_recalls, evaluation) for evaluation in dict.fromkeys(recalls)]
    if "train/learning_rate" in series:
        panels.append((_draw_learning_rate, "train/learning_rate"))
    if not panels:
        raise ValueError(
            f"{metrics_file} has no train/*loss, no train/learning_rate and no recalls to draw; "
            f"it has {sorted(series) or 'nothing'}"
        )
    figure, axes = _panels(len(panels))
    for axis, (draw, name) in zip(axes, panels, strict=True):
        draw(axis, series, name)
    figure.tight_layout(h_pad=1.6, w_pad=1.4)
    figure.savefig(png, dpi=DPI)


def compare_losses(
    metrics_files: Mapping[str, Sequence[str | os.PathLike]], png: str | os.PathLike
) -> None:
    """Draws losses and mean recalls of several kinds of runs, a colour a kind: its runs thin, their
    mean thick.

    Args:
        metrics_files: kind -> a `metrics.jsonl` a run. Drawn is what all runs log, their means at
            the steps that all runs of a kind log: one that was stopped and went on has a few more.
        png: the file to write.
    """
    _compare(metrics_files, png, lambda shared: _losses(shared) + _mean_recalls(shared))


def compare_recalls(
    metrics_files: Mapping[str, Sequence[str | os.PathLike]], png: str | os.PathLike
) -> None:
    """Draws mean recalls as `compare_losses` does, of runs whose losses are not alike.

    Args:
        metrics_files, png: as there.
    """
    _compare(metrics_files, png, _mean_recalls)


def _compare(
    metrics_files: Mapping[str, Sequence[str | os.PathLike]],
    png: str | os.PathLike,
    pick: Callable[[list[str]], list[str]],
) -> None:
    """Draws those that `pick` takes of the metrics that all runs log."""
    kinds = {kind: [read_metrics(file) for file in files] for kind, files in metrics_files.items()}
    first, *others = (run for runs in kinds.values() for run in runs)
    names = pick([name for name in first if all(name in run for run in others)])
    figure, axes = _panels(len(names))
    for axis, name in zip(axes, names, strict=True):
        for color, (kind, runs) in zip(_COLORS, kinds.items(), strict=False):
            _draw_kind(axis, name, kind, runs, color)
        words = name.partition("/")[2].replace("/", ", ").replace("_", " ")
        _title(axis, textwrap.fill(words, 36))
    handles, _ = axes[0].get_legend_handles_labels()
    columns = min(len(kinds), 2 * min(4, len(names)))
    figure.legend(handles=handles, loc="upper left", ncols=columns, **_LEGEND)
    below_legend = 1 - 0.2 * (0.25 + -(-len(kinds) // columns)) / figure.get_figheight()
    figure.tight_layout(h_pad=1.6, w_pad=1.4, rect=(0, 0, 1, below_legend))
    figure.savefig(png, dpi=DPI)


def _losses(names: Iterable[str]) -> list[str]:
    """The losses of the training, the total one first."""
    losses = (name for name in names if name.startswith("train/") and name.endswith("loss"))
    return sorted(losses, key=lambda name: (name != "train/loss", name))


def _mean_recalls(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.endswith("/mean_recall")]


def _panels(count: int) -> tuple["Figure", np.ndarray]:
    """A figure of `count` styled axes, four a row."""
    columns = min(4, count)
    rows = -(-count // columns)
    figure = make_figure(3.5 * columns, 2.7 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[:count]:
        _style(axis)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def _style(axis: "Axes") -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(LIGHT)
    axis.tick_params(colors=GREY, labelsize=8, length=0)
    axis.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.set_xlabel("step", fontsize=8, color=GREY)


def _title(axis: "Axes", text: str, note: str = "", *, pad: float = 8) -> None:
    axis.set_title(text, loc="left", fontsize=10, color=INK, weight="bold", pad=pad)
    axis.set_title(note, loc="right", fontsize=9, color=GREY, pad=pad)


def _draw_loss(axis: "Axes", series: Series, name: str) -> None:
    steps, values = series[name]
    smoothed = _smooth(values)
    others = [other for other in _losses(series) if other != "train/loss"]
    color = INK if name == "train/loss" else _COLORS[others.index(name) % len(_COLORS)]
    axis.plot(steps, values, color=color, alpha=0.25, linewidth=1)
    axis.plot(steps, smoothed, color=color, linewidth=1.8)
    label = name.removeprefix("train/").removesuffix("loss").rstrip("_")
    _title(axis, f"{label.upper()} loss" if label else "Total loss", f"{smoothed[-1]:.3g}")


def _draw_recalls(axis: "Axes", series: Series, evaluation: str) -> None:
    """Recalls by similarity both ways in percent; those after re-ranking are not drawn."""
    from matplotlib.lines import Line2D

    keys = []
    for cutoff, color in _RECALL_COLORS.items():
        latest = []
        for way, style in _WAYS.items():
            steps, values = series.get(
                f"{evaluation}/{way}_recall_at_{cutoff}", (np.zeros(0), np.zeros(0))
            )
            axis.plot(
                steps, 100 * values, style, color=color, linewidth=1.6, marker="o", markersize=3
            )
            latest += [f"{100 * value:.1f}" for value in values[-1:]]
        keys.append(Line2D([], [], color=color, label=f"R@{cutoff}: {' / '.join(latest)}"))
    for way, style in _WAYS.items():
        keys.append(Line2D([], [], color=GREY, linestyle=style, label=way.replace("_", " ")))
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter("{x:g} %")
    # Above the panel: within it there is no place that no curve crosses.
    axis.legend(
        handles=keys,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        borderaxespad=0.2,
        columnspacing=1.2,
        **_LEGEND,
    )
    _title(axis, evaluation.removeprefix("eval/"), pad=42)


def _draw_learning_rate(axis: "Axes", series: Series, name: str) -> None:
    steps, values = series[name]
    axis.plot(steps, values, color=INK, linewidth=1.6)
    axis.set_ylim(bottom=0)
    axis.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axis.yaxis.get_offset_text().set(fontsize=8, color=GREY)
    axis.yaxis.get_offset_text().set_x(-0.12)
    _title(axis, "Learning rate")


def _draw_kind(axis: "Axes", name: str, kind: str, runs: Sequence[Series], color: str) -> None:
    """One metric of the runs of a kind, and their mean; losses are smoothed."""
    smooth = _smooth if name.startswith("train/") else np.asarray
    curves = [smooth(run[name][1]) for run in runs]
    for run, curve in zip(runs, curves, strict=True):
        axis.plot(run[name][0], curve, color=color, alpha=0.3, linewidth=0.8)
    steps = functools.reduce(np.intersect1d, [run[name][0] for run in runs])
    common = [curve[np.isin(run[name][0], steps)] for run, curve in zip(runs, curves, strict=True)]
    axis.plot(steps, np.mean(common, axis=0), color=color, linewidth=1.8, label=kind)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Means over a Gaussian window of a fiftieth of the points; NaN is left out of the means."""
    width = max(1.0, len(values) / 50)
    reach = math.ceil(3 * width)
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0.0), window)[reach:-reach]
    weight = np.convolve(known.astype(np.float64), window)[reach:-reach]
    return np.divide(total, weight, out=np.full(len(values), np.nan), where=weight > 1e-12)
