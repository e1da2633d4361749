"""The page of a classification: what the images of each class are taken for."""

import os
from collections.abc import Sequence

import numpy as np

from vlmo_jax.reports.canvas import DPI, GREY, INK, make_figure, shorten

_MOST = 24  # classes that are drawn, the most frequent ones
_CELL, _NAMES = 0.32, 1.9  # a cell and the room for names, in inches


def confusions_page(
    classes: Sequence[str], confusion: np.ndarray, png: str | os.PathLike, *, title: str = ""
) -> None:
    """Draws a table: rows are the true classes, columns what their images are taken for.

    Args:
        classes: [C], their names.
        confusion: int [C, C], counts. Classes without an image are columns where any is taken for
            one of them.
        png: the file to write.
        title: a line above all.
    """
    counts = confusion.sum(axis=1)
    shown = _most_frequent(counts)
    others = [n for n in _most_frequent(confusion[shown].sum(axis=0)) if n not in shown]
    taken_for = [*shown, *others][:_MOST]
    shares = confusion[np.ix_(shown, taken_for)] / counts[shown][:, None]
    down, across = _CELL * len(shown), _CELL * len(taken_for)
    width, height = _NAMES + across + 0.9, _NAMES + down + 0.7
    figure = make_figure(width, height)
    axis = figure.add_axes((_NAMES / width, 0.3 / height, across / width, down / height))
    axis.imshow(shares, cmap="Greens", vmin=0, vmax=1, aspect="auto")
    names = [shorten(classes[number], 22, placeholder="…") for number in taken_for]
    axis.set_xticks(range(len(taken_for)), names, rotation=90, fontsize=8, color=INK)
    rows = [f"{name} ({counts[n]:,})" for name, n in zip(names, shown, strict=False)]
    axis.set_yticks(range(len(shown)), rows, fontsize=8, color=INK)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
        dark = shares[row, column] > 0.6
        axis.text(
            column,
            row,
            f"{100 * shares[row, column]:.0f}",
            ha="center",
            va="center",
            fontsize=6.5,
            color="white" if dark else GREY,
        )
    figure.text(0.15 / width, 1 - 0.12 / height, title, va="top", fontsize=10, color=INK)
    figure.text(
        0.15 / width,
        0.08 / height,
        f"percent of a row's images; {len(shown)} of {int((counts > 0).sum())} classes",
        fontsize=7.5,
        color=GREY,
    )
    figure.savefig(png, dpi=DPI)


def _most_frequent(counts: np.ndarray) -> list[int]:
    return [int(n) for n in np.argsort(-counts, kind="stable")[:_MOST] if counts[n]]
