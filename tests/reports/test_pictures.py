import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.paths import ROOT
from vlmo_jax.reports import metrics, pictures

GREEN = (22, 163, 74)


def pixels_of(png):
    return np.asarray(Image.open(png).convert("RGB"))


def count(pixels, color):
    return int(np.sum((pixels == color).all(axis=-1)))


def write_metrics(path, names, steps=range(0, 100, 10)):
    with open(path, "w") as file:
        for step in steps:
            file.write(json.dumps({"step": step, **dict.fromkeys(names, 1 / (step + 5))}) + "\n")


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
    pictures.loss_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    height, width, _ = pixels_of(tmp_path / "curves.png").shape
    assert (width // 385, height // 297) == panels


def test_curves_of_a_run_that_is_being_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, LOSSES, steps=[10])
    with open(path, "a") as file:
        file.write('{"step": 20, "train/loss": null}\n{"step": 30, "tra')
    pictures.loss_curves(path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").exists()


def test_nothing_to_draw_is_refused(tmp_path):
    write_metrics(tmp_path / "metrics.jsonl", ["train/grad_norm"])
    with pytest.raises(
        ValueError, match=r"metrics.jsonl has no train/\*loss.*it has \['train/grad_norm'\]"
    ):
        pictures.loss_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")


def test_smoothing_keeps_constants_and_passes_over_gaps():
    values = np.full(200, 3.0)
    values[[0, 17, 199]] = np.nan
    np.testing.assert_allclose(pictures._smooth(values), 3.0, rtol=1e-12)
    noise = np.random.default_rng(0).normal(size=500)
    assert np.std(pictures._smooth(noise)) < 0.3 * np.std(noise)
    assert pictures._smooth(np.array([2.0])).tolist() == [2.0]
    assert np.isnan(pictures._smooth(np.array([np.nan]))).all()


def draw_page(png, right, image_right, num_images=4):
    queries, found = right.shape
    pictures.retrieval_page(
        ["two $ signs cost $ a caption of many words that must be broken over lines"] * queries,
        np.full((queries, found, 16, 16, 3), 200, np.uint8),
        right,
        np.full((num_images, 16, 16, 3), 100, np.uint8),
        [["word"] * image_right.shape[1]] * num_images,
        image_right,
        png,
        title="drawings",
    )
    return pixels_of(png)


def test_right_images_have_a_green_frame(tmp_path):
    right, none = np.zeros((3, 5), bool), np.zeros((4, 5), bool)
    right[0, 2] = right[2, 4] = True
    one = right & (np.arange(3) == 0)[:, None]
    greens = [
        count(draw_page(tmp_path / "page.png", mask, none), GREEN)
        for mask in (none[:3], one, right)
    ]
    assert (
        greens[0] == 0 and greens[1] > 500 and greens[2] == pytest.approx(2 * greens[1], rel=0.02)
    )


def test_right_captions_are_green(tmp_path):
    none, some = np.zeros((3, 5), bool), np.zeros((4, 5), bool)
    some[1, 2] = True
    assert count(draw_page(tmp_path / "page.png", none, some), GREEN) > 20


def test_pages_without_images_or_captions_as_queries(tmp_path):
    both = draw_page(tmp_path / "page.png", np.zeros((3, 5), bool), np.zeros((4, 5), bool)).shape[0]
    no_images = draw_page(
        tmp_path / "page.png", np.zeros((3, 5), bool), np.zeros((0, 5), bool), num_images=0
    ).shape[0]
    no_captions = draw_page(
        tmp_path / "page.png", np.zeros((0, 5), bool), np.zeros((4, 5), bool)
    ).shape[0]
    assert max(no_images, no_captions) < both


def test_training_starts_without_matplotlib():
    script = "import sys, vlmo_jax.reports.pictures; sys.exit('matplotlib' in sys.modules)"
    root = ROOT
    assert subprocess.run([sys.executable, "-c", script], cwd=root).returncode == 0


def test_written_metrics_can_be_drawn(tmp_path):
    with metrics.MetricWriter(tmp_path, start_step=0, total_steps=2) as writer:
        writer.write(1, {"train/loss": np.float32(2.0)})
    pictures.loss_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert count(pixels_of(tmp_path / "curves.png"), (255, 255, 255)) > 1000


class Filled:
    """As `evals.masked_text.FillIn`."""

    def __init__(self, right):
        self.parts, self.answers = ["the $x", "sat on the mat"], ["cat"]
        self.guesses = [[("dog", 0.6), ("cat" if right else "hat", 0.2)]]


def test_right_words_in_a_page_of_blanks_are_green(tmp_path):
    green, widths = {}, {}
    for name, columns in {"none": [False], "one": [False, True], "both": [True, True]}.items():
        page = {f"column {i}": [Filled(right)] * 2 for i, right in enumerate(columns)}
        pictures.fill_in_page(page, tmp_path / "page.png", title="title")
        pixels = pixels_of(tmp_path / "page.png")
        green[name], widths[name] = count(pixels, GREEN), pixels.shape[1]
    assert (
        green["none"] == 0
        and green["one"] > 20
        and green["both"] == pytest.approx(2 * green["one"], rel=0.1)
    )
    assert widths["none"] < widths["one"] == widths["both"]
