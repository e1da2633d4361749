"""Curves of metrics."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.paths import ROOT
from tests.reports.pictures import count, pixels_of
from vlmo_jax.reports import curves, metrics


def write_metrics(path, names, steps=range(0, 100, 10)):
    with open(path, "w") as file:
        for step in steps:
            file.write(json.dumps({"step": step, **dict.fromkeys(names, 1 / (step + 5))}) + "\n")


PAGES = ROOT / "vlmo_jax" / "reports" / "pages"
LOSSES = ["train/loss", "train/itc_loss", "train/itm_loss", "train/mlm_loss"]
RECALLS = [
    f"eval/drawings/{way}_recall_at_{k}"
    for way in ("image_to_text", "text_to_image")
    for k in (1, 5, 10)
]


@pytest.mark.parametrize(
    "names, panels",
    [
        (LOSSES + RECALLS + ["train/learning_rate", "train/grad_norm"], (4, 2)),
        (LOSSES, (4, 1)),
        (RECALLS, (1, 1)),
        (["train/loss"], (1, 1)),
    ],
)
def test_one_panel_a_loss_an_evaluation_and_the_rate(tmp_path, names, panels):
    write_metrics(tmp_path / "metrics.jsonl", names)
    curves.loss_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    height, width, _ = pixels_of(tmp_path / "curves.png").shape
    assert (width // 385, height // 297) == panels


def test_curves_of_a_run_that_is_being_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, LOSSES, steps=[10])
    with open(path, "a") as file:
        file.write('{"step": 20, "train/loss": null}\n{"step": 30, "tra')
    curves.loss_curves(path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_nothing_to_draw_is_refused(tmp_path):
    write_metrics(tmp_path / "metrics.jsonl", ["train/grad_norm"])
    with pytest.raises(
        ValueError, match=r"metrics.jsonl has no train/\*loss.*it has \['train/grad_norm'\]"
    ):
        curves.loss_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")


def test_smoothing_keeps_constants_and_passes_over_gaps():
    values = np.full(200, 3.0)
    values[[0, 17, 199]] = np.nan
    np.testing.assert_allclose(curves._smooth(values), 3.0, rtol=1e-12)
    noise = np.random.default_rng(0).normal(size=500)
    assert np.std(curves._smooth(noise)) < 0.3 * np.std(noise)
    assert curves._smooth(np.array([2.0])).tolist() == [2.0]
    assert np.isnan(curves._smooth(np.array([np.nan]))).all()


def test_training_starts_without_matplotlib():
    rooms = ("curves", *(f"pages.{path.stem}" for path in PAGES.glob("[!_]*.py")))
    names = ", ".join(f"vlmo_jax.reports.{room}" for room in rooms)
    script = f"import sys, {names}; sys.exit('matplotlib' in sys.modules)"
    assert len(rooms) > 4
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_written_metrics_can_be_drawn(tmp_path):
    with metrics.MetricWriter(tmp_path, start_step=0, total_steps=2) as writer:
        writer.write(1, {"train/loss": np.float32(2.0)})
    curves.loss_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert count(pixels_of(tmp_path / "curves.png"), (255, 255, 255)) > 1000


@pytest.mark.parametrize("recall", [0.01, 1.0])
def test_no_legend_lies_on_curves(tmp_path, monkeypatch, recall):
    path = tmp_path / "metrics.jsonl"
    with open(path, "w") as file:
        for step in range(0, 100, 10):
            values = dict.fromkeys(LOSSES + RECALLS + ["eval/drawings/mean_recall"], recall)
            file.write(json.dumps({"step": step, **values}) + "\n")
    drawn = []
    make = curves.make_figure
    monkeypatch.setattr(curves, "make_figure", lambda *size: drawn.append(make(*size)) or drawn[-1])
    curves.loss_curves(path, tmp_path / "curves.png")
    curves.compare_losses({"a": [path], "runs/chain/stage2": [path]}, tmp_path / "compare.png")
    for figure in drawn:
        legends = figure.legends + [axis.get_legend() for axis in figure.axes if axis.get_legend()]
        (legend,) = [legend.get_window_extent() for legend in legends]
        assert figure.bbox.containsx(legend.x0) and figure.bbox.containsx(legend.x1)
        assert figure.bbox.containsy(legend.y0) and figure.bbox.containsy(legend.y1)
        for axis in figure.axes:
            for title in (axis.title, axis._left_title, axis._right_title):
                if title.get_text():
                    assert not legend.overlaps(title.get_window_extent())
            if axis.axison:
                assert not legend.overlaps(axis.get_window_extent())
