"""Bars with the deviation of their runs, a panel a metric."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from vlmo_jax.reports.canvas import DPI, GREY, INK, LIGHT, make_figure

_COLOR = "#3b82f6"


def draw_bars(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    png: str | os.PathLike,
    *,
    unit: str = " %",
    factor: float = 100.0,
) -> None:
    """Draws a panel a metric: a bar a contender, its length the mean, a line the deviation, a point
    each run.

    Args:
        panels: metric -> contender -> a value a run; contenders without values have no bar.
        png: the file to write.
        unit: behind the numbers.
        factor: that values are multiplied by.
    """
    from matplotlib.ticker import MaxNLocator

    columns = min(3, max(1, len(panels)))
    rows = -(-len(panels) // columns)
    most = max((len(bars) for bars in panels.values()), default=1)
    figure = make_figure(4.6 * columns, rows * (0.9 + 0.32 * most))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (metric, bars) in zip(axes, panels.items(), strict=False):
        axis.set_title(metric, loc="left", fontsize=10, color=INK, weight="bold")
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.spines["left"].set_color(LIGHT)
        axis.tick_params(colors=GREY, labelsize=8, length=0)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.xaxis.set_major_formatter(f"{{x:g}}{unit}")
        names = list(bars)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.4, -0.6)
        for place, name in enumerate(names):
            values = factor * np.asarray(bars[name], float)
            if len(values):
                spread = values.std(ddof=1) if len(values) > 1 else 0.0
                axis.barh(place, values.mean(), 0.66, color=_COLOR, alpha=0.55)
                axis.errorbar(values.mean(), place, xerr=spread, color=INK, capsize=3, linewidth=1)
                axis.plot(values, np.full(len(values), place), ".", color=INK, markersize=4)
    figure.tight_layout(h_pad=1.6, w_pad=1.4)
    figure.savefig(png, dpi=DPI)
