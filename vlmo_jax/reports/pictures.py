"""Pictures of a run: the curves of its metrics, and what some queries retrieve.

matplotlib is imported when the first picture is drawn, so that it does not slow the start of a run.
"""

import functools
import math
import os
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from vlmo_jax.reports.metrics import read_metrics

_INK, _GREY, _LIGHT, _RIGHT = "#1f2937", "#6b7280", "#d1d5db", "#16a34a"
_LOSS_COLORS = ("#2563eb", "#d97706", "#059669", "#7c3aed", "#db2777", "#0891b2")
_RECALL_COLORS = {1: "#1e3a8a", 5: "#3b82f6", 10: "#93c5fd"}
_WAYS = {"image_to_text": "-", "text_to_image": "--"}
_DPI = 110


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
    losses = sorted(
        (name for name in series if name.startswith("train/") and name.endswith("loss")),
        key=_loss_order,
    )
    evaluations = list(
        dict.fromkeys(name.rsplit("/", 1)[0] for name in series if "_recall_at_" in name)
    )
    panels = [(_draw_loss, name) for name in losses] + [
        (_draw_recalls, name) for name in evaluations
    ]
    panels += [(_draw_learning_rate, "train/learning_rate")] * ("train/learning_rate" in series)
    if not panels:
        raise ValueError(
            f"{metrics_file} has no train/*loss, no train/learning_rate and no recalls to draw; "
            f"it has {sorted(series) or 'nothing'}"
        )
    figure, axes = _panels(len(panels))
    for axis, (draw, name) in zip(axes, panels):
        draw(axis, series, name)
    figure.tight_layout(h_pad=1.6, w_pad=1.4)
    figure.savefig(png, dpi=_DPI)


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
    kinds = {kind: [read_metrics(file) for file in files] for kind, files in metrics_files.items()}
    first, *others = (run for runs in kinds.values() for run in runs)
    shared = [name for name in first if all(name in run for run in others)]
    losses = sorted(
        (name for name in shared if name.startswith("train/") and name.endswith("loss")),
        key=_loss_order,
    )
    names = losses + [name for name in shared if name.endswith("/mean_recall")]
    figure, axes = _panels(len(names))
    for axis, name in zip(axes, names):
        for color, (kind, runs) in zip(_LOSS_COLORS, kinds.items()):
            curves = [
                run[name][1] if name.startswith("eval/") else _smooth(run[name][1]) for run in runs
            ]
            for run, curve in zip(runs, curves):
                axis.plot(run[name][0], curve, color=color, alpha=0.3, linewidth=0.8)
            steps = functools.reduce(np.intersect1d, [run[name][0] for run in runs])
            means = np.mean(
                [curve[np.isin(run[name][0], steps)] for run, curve in zip(runs, curves)], axis=0
            )
            axis.plot(steps, means, color=color, linewidth=1.8, label=kind)
        _title(axis, name.partition("/")[2].replace("/", ", ").replace("_", " "))
    axes[0].legend(fontsize=7, frameon=False, labelcolor=_GREY)
    figure.tight_layout(h_pad=1.6, w_pad=1.4)
    figure.savefig(png, dpi=_DPI)


def retrieval_page(
    captions: Sequence[str],
    caption_images: np.ndarray,
    caption_correct: np.ndarray,
    images: np.ndarray,
    image_captions: Sequence[Sequence[str]],
    image_correct: np.ndarray,
    png: str | os.PathLike,
    *,
    title: str = "",
) -> None:
    """Draws captions with the images they retrieve, and images with the captions they retrieve;
    right ones are green.

    Args:
        captions: [Q] captions as queries.
        caption_images: uint8 [Q, K, S, S, 3], best first.
        caption_correct: bool [Q, K].
        images: uint8 [R, S, S, 3] images as queries.
        image_captions: [R][L], best first.
        image_correct: bool [R, L].
        png: the file to write.
        title: a line above all.
    """
    cell, gap, margin, label, head = 0.86, 0.12, 0.3, 2.1, 0.38
    num_images = caption_images.shape[1] if len(captions) else 5
    caption_lines = image_correct.shape[1] if len(images) else 0
    image_cell = max(cell, 0.19 * caption_lines)
    width = 2 * margin + label + num_images * (cell + gap)
    per_row = max(1, int((width - 2 * margin) // 3.3))
    image_rows = -(-len(images) // per_row)
    height = (
        2 * margin
        + head * (bool(title) + bool(len(captions)) + bool(len(images)))
        + len(captions) * (cell + gap)
        + image_rows * (image_cell + 2 * gap)
    )
    figure = _figure(width, height)
    page = _Page(figure, width, height)
    top = margin
    if title:
        page.text(margin, top, title, fontsize=11, color=_INK, weight="bold")
        top += head
    if len(captions):
        page.text(
            margin,
            top + 0.06,
            "Caption, and the images it finds (best first)",
            fontsize=9,
            color=_GREY,
        )
        top += head
    for caption, found, correct in zip(captions, caption_images, caption_correct):
        page.text(
            margin,
            top + cell / 2,
            textwrap.shorten(caption, 110),
            wrap=25,
            fontsize=10,
            color=_INK,
            va="center",
        )
        for place, (image, right) in enumerate(zip(found, correct)):
            page.image(margin + label + place * (cell + gap), top, cell, image, right)
        top += cell + gap
    if len(images):
        top += gap
        page.text(
            margin,
            top + 0.06,
            "Image, and the captions it finds (best first)",
            fontsize=9,
            color=_GREY,
        )
        top += head
    for number, (image, found, correct) in enumerate(zip(images, image_captions, image_correct)):
        row, column = divmod(number, per_row)
        left, upper = (
            margin + column * (width - 2 * margin) / per_row,
            top + row * (image_cell + 2 * gap),
        )
        page.image(left, upper + (image_cell - cell) / 2, cell, image, None)
        for line, (caption, right) in enumerate(zip(found, correct)):
            page.text(
                left + cell + 0.15,
                upper + (line + 0.5) * image_cell / caption_lines,
                ("✓ " if right else "") + textwrap.shorten(caption, 34, placeholder="…"),
                fontsize=8.5,
                va="center",
                color=_RIGHT if right else _GREY,
                weight="bold" if right else "normal",
            )
    figure.savefig(png, dpi=_DPI)


def fill_in_page(
    columns: Mapping[str, Sequence], png: str | os.PathLike, *, title: str = ""
) -> None:
    """Draws texts with blanks and the words that models fill in, side by side; right ones are
    green.

    Args:
        columns: what the model was, such as "before", -> `evals.masked_text.FillIn`s, of the same
            texts in every column.
        png: the file to write.
        title: a line above all.
    """
    first = next(iter(columns.values()))
    shown = min((len(guesses) for fill in first for guesses in fill.guesses), default=0)
    margin, line, head, answer, word = 0.3, 0.21, 0.38, 1.5, 1.25
    wide = shown * word + 0.2
    width = 2 * margin + answer + len(columns) * wide
    texts = [
        textwrap.wrap(_with_blanks(fill.parts), int((width - 2 * margin) * 13)) for fill in first
    ]
    height = (
        2 * margin
        + head * (bool(title) + 1)
        + line
        + sum(line * (len(lines) + len(fill.answers) + 1) for lines, fill in zip(texts, first))
    )
    figure = _figure(width, height)
    page, top = _Page(figure, width, height), margin
    if title:
        page.text(margin, top, title, fontsize=11, color=_INK, weight="bold")
        top += head
    for number, name in enumerate(columns):
        page.text(
            margin + answer + number * wide,
            top,
            f"{name}: likeliest words",
            fontsize=9,
            color=_GREY,
        )
    top += head + line
    for row, lines in enumerate(texts):
        for text in lines:
            page.text(margin, top, text, fontsize=10, va="baseline", color=_INK)
            top += line
        for blank, right in enumerate(first[row].answers):
            page.text(
                margin,
                top,
                f"[{blank + 1}]  {right}",
                fontsize=9,
                va="baseline",
                color=_GREY,
                weight="bold",
            )
            for number, fills in enumerate(columns.values()):
                for place, (guess, probability) in enumerate(fills[row].guesses[blank][:shown]):
                    text = (
                        f"{textwrap.shorten(guess, 14, placeholder='…')} {100 * probability:.0f} %"
                    )
                    page.text(
                        margin + answer + number * wide + place * word,
                        top,
                        text,
                        fontsize=8.5,
                        va="baseline",
                        color=_RIGHT if guess == right else _GREY,
                        weight="bold" if guess == right else "normal",
                    )
            top += line
        top += line
    figure.savefig(png, dpi=_DPI)


def _with_blanks(parts):
    blanks = [f"___[{number}]___" for number in range(1, len(parts))]
    return " ".join(text for pair in zip(parts, [*blanks, ""]) for text in pair if text)


def masked_images_page(
    columns: Mapping[str, np.ndarray], png: str | os.PathLike, *, title: str = ""
) -> None:
    """Draws images side by side in their several forms, a row each.

    Args:
        columns: what a form is -> uint8 [N, S, S, 3]; forms may differ in S.
        png: the file to write.
        title: a line above all.
    """
    cell, gap, margin, head = 1.5, 0.15, 0.3, 0.38
    rows = len(next(iter(columns.values())))
    width, height = (
        2 * margin + len(columns) * (cell + gap) - gap,
        2 * margin + head * (bool(title) + 1) + rows * (cell + gap),
    )
    figure = _figure(width, height)
    page, top = _Page(figure, width, height), margin
    if title:
        page.text(margin, top, title, fontsize=11, color=_INK, weight="bold")
        top += head
    for column, (name, images) in enumerate(columns.items()):
        left = margin + column * (cell + gap)
        page.text(left, top + 0.06, name, fontsize=7.5, color=_GREY)
        for row, image in enumerate(images):
            page.image(left, top + head + row * (cell + gap), cell, image, None)
    figure.savefig(png, dpi=_DPI)


class _Page:
    """A figure measured in inches from its upper left corner."""

    def __init__(self, figure, width, height):
        self._figure, self._width, self._height = figure, width, height

    def text(self, left, top, text, *, wrap=None, va="top", **style):
        # parse_math: a caption may have dollar signs.
        text = textwrap.fill(text, wrap) if wrap else text
        self._figure.text(
            left / self._width, 1 - top / self._height, text, va=va, parse_math=False, **style
        )

    def image(self, left, top, size, pixels, right):
        """Draws an image; `right` None for a query, else whether it is what was looked for."""
        box = (
            left / self._width,
            1 - (top + size) / self._height,
            size / self._width,
            size / self._height,
        )
        axis = self._figure.add_axes(box)
        axis.imshow(
            pixels,
            interpolation="lanczos" if pixels.shape[0] < size * _DPI else "antialiased",
            aspect="auto",
        )
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set(color=_RIGHT if right else _LIGHT, linewidth=3.5 if right else 0.8)


def _figure(width, height):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="white")


def _panels(count):
    """A figure of `count` styled axes, four a row."""
    columns = min(4, count)
    rows = -(-count // columns)
    figure = _figure(3.5 * columns, 2.7 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[:count]:
        _style(axis)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes[:count]


def _style(axis):
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(_LIGHT)
    axis.tick_params(colors=_GREY, labelsize=8, length=0)
    axis.grid(axis="y", color="#e5e7eb", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.set_xlabel("step", fontsize=8, color=_GREY)


def _title(axis, text, note=""):
    axis.set_title(text, loc="left", fontsize=10, color=_INK, weight="bold", pad=8)
    axis.set_title(note, loc="right", fontsize=9, color=_GREY, pad=8)


def _loss_order(name):
    return (name != "train/loss", name)


def _draw_loss(axis, series, name):
    steps, values = series[name]
    smoothed = _smooth(values)
    others = sorted(
        other for other in series if other.startswith("train/") and other.endswith("_loss")
    )
    color = _INK if name == "train/loss" else _LOSS_COLORS[others.index(name) % len(_LOSS_COLORS)]
    axis.plot(steps, values, color=color, alpha=0.25, linewidth=1)
    axis.plot(steps, smoothed, color=color, linewidth=1.8)
    label = name.removeprefix("train/").removesuffix("loss").rstrip("_")
    _title(axis, f"{label.upper()} loss" if label else "Total loss", f"{smoothed[-1]:.3g}")


def _draw_recalls(axis, series, evaluation):
    """Recalls by similarity both ways in percent; those after re-ranking are in the metrics file."""
    from matplotlib.lines import Line2D

    keys = []
    for cutoff, color in _RECALL_COLORS.items():
        latest = []
        for way, style in _WAYS.items():
            steps, values = series.get(f"{evaluation}/{way}_recall_at_{cutoff}", ([], np.zeros(0)))
            axis.plot(
                steps, 100 * values, style, color=color, linewidth=1.6, marker="o", markersize=3
            )
            latest += [f"{100 * value:.1f}" for value in values[-1:]]
        keys.append(Line2D([], [], color=color, label=f"R@{cutoff}: {' / '.join(latest)}"))
    keys += [
        Line2D([], [], color=_GREY, linestyle=style, label=way.replace("_", " "))
        for way, style in _WAYS.items()
    ]
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter("{x:g} %")
    axis.legend(
        handles=keys,
        fontsize=7,
        frameon=False,
        loc="upper left",
        labelcolor=_GREY,
        handlelength=1.8,
    )
    _title(axis, evaluation.removeprefix("eval/"))


def _draw_learning_rate(axis, series, name):
    steps, values = series[name]
    axis.plot(steps, values, color=_INK, linewidth=1.6)
    axis.set_ylim(bottom=0)
    axis.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axis.yaxis.get_offset_text().set(fontsize=8, color=_GREY)
    axis.yaxis.get_offset_text().set_x(-0.12)
    _title(axis, "Learning rate")


def _smooth(values):
    """Means over a Gaussian window of a fiftieth of the points; NaN is left out of the means."""
    width = max(1.0, len(values) / 50)
    reach = math.ceil(3 * width)
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    known = np.isfinite(values)
    total = np.convolve(np.where(known, values, 0.0), window)[reach:-reach]
    weight = np.convolve(known.astype(np.float64), window)[reach:-reach]
    return np.divide(total, weight, out=np.full(len(values), np.nan), where=weight > 1e-12)
