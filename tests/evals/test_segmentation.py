"""Evaluation of segmentation: windows become images, pixels are counted once, faults are named."""

import json
import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.evals import segmentation_case as case
from tests.evals.segmentation_case import by_light, record
from tests.paths import ROOT
from vlmo_jax.datasets.records import SegmentationRecord
from vlmo_jax.evals.segmentation import SegmentationEvaluation
from vlmo_jax.evals.sliding_windows import average_over_windows
from vlmo_jax.evals.window_views import LookedAt, Looking, resized
from vlmo_jax.layers.grids import average_parts, resize_bilinear


def evaluator(records, **options):
    return case.make_evaluator(tiny.mesh_of((1, 1, 1)), records, **options)


@pytest.mark.parametrize("looking", [{}, {"scales": (0.5, 1.0, 1.5), "flip": True}])
def test_pixels_are_counted_at_the_original_size(tmp_path, looking, capsys):
    records = [record(32, 56, "a"), record(64, 40, "b"), record(40, 40, "c")]
    found = evaluator(records, **looking)
    run = SegmentationEvaluation("segmentation", [found], by_light)
    with jax.set_mesh(tiny.mesh_of((1, 1, 1))):
        scores, segmented = found.evaluate(by_light, case.SHARES, 1)
        metrics = run.run(case.SHARES, 1, tmp_path / "page.png", tmp_path)
    assert segmented.counts[2].sum() == 32 * 56 + 64 * 40 + 40 * 40
    assert [name for name, _ in segmented.per_image] == ["a", "b", "c"]
    assert scores["mean_iou"] > 0.9
    assert metrics["eval/segmentation/split/mean_iou"] == scores["mean_iou"]
    assert "1 classes of the model have no pixel here: never" in capsys.readouterr().out
    assert Image.open(tmp_path / "page.png").width > 300


def test_two_processes_equal_one():
    """Of 9 windows in batches of 4, on two devices a process; the last batch holds one."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.evals.segmentation_case", str(port)]
    options = {"stdout": subprocess.PIPE, "text": True, "env": environment, "cwd": ROOT}
    processes = [subprocess.Popen([*command, str(number)], **options) for number in range(2)]
    try:
        outputs = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    results = [
        json.loads(line.split(" ", 1)[1])
        for text in outputs
        for line in text.splitlines()
        if line.startswith("RESULT")
    ]
    records = case.make_records()
    waiting = [LookedAt(Image.new("RGB", (w, h)), case.LOOKING).waiting for h, w in case.SIZES]
    assert sum(waiting) % case.BATCH_SIZE == 1
    one, padded = (
        case.result_of(evaluator(records, batch_size=size), case.SHARES)
        for size in (1, case.BATCH_SIZE)
    )
    labelled = sum((height - row) * width for row, (height, width) in enumerate(case.SIZES))
    assert results == [one, one] and padded == one
    assert sum(one["counts"][1]) == sum(one["counts"][2]) == labelled
    assert 0.2 < one["scores"]["mean_iou"] < 0.9
    assert ["split at step" in text for text in outputs] == [True, False]


def test_windows_are_averaged_as_the_reference_does():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (32, 75, 3)).astype(np.uint8)
    looked = LookedAt(Image.fromarray(pixels), Looking(32, 20))
    predict = lambda images: jnp.asarray(images) * images.mean((1, 2, 3), keepdims=True) / 255
    for view, place, window in looked.windows():
        looked.add(view, place, np.asarray(predict(window[None].astype(np.float32)))[0])
    whole = average_over_windows(predict, pixels[None].astype(np.float32), (32, 32), (20, 20))
    np.testing.assert_array_equal(looked.classes(), np.asarray(whole)[0].argmax(-1))


def test_resizing_on_the_host_is_that_of_the_device():
    x = np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
    there = np.asarray(resize_bilinear(x[None], (12, 9)))[0]
    np.testing.assert_allclose(resized(x, (12, 9)), there, atol=1e-5)


def test_means_of_parts_overlap_as_in_torch():
    x = jnp.arange(5.0)[None, :, None, None] * jnp.ones((1, 1, 5, 1))
    np.testing.assert_allclose(average_parts(x, 3)[0, :, 0, 0], [0.5, 2.0, 3.5])


def test_a_record_that_cannot_be_scored_is_named():
    whole, other = record(32, 40, "whole"), record(40, 40, "other")
    mixed = SegmentationRecord(whole.image, other.mask, "mixed")
    for broken, why in (
        (record(32, 32, "unknown", label=7), "'unknown' .*label 7, and the classes are 0 to 2"),
        (mixed, "'mixed' .*mask has 40 x 40 pixels and the image 40 x 32"),
    ):
        with pytest.raises(RuntimeError, match=why):
            evaluator([whole, broken]).evaluate(by_light, case.SHARES, 1)
