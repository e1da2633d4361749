import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.paths import ROOT
from vlmo_jax.reports import metrics


def lines_of(folder):
    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    return [
        json.loads(line, parse_constant=refuse)
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def write(folder, steps, start_step=0, value=1.0):
    with metrics.MetricWriter(folder, start_step=start_step, total_steps=10) as writer:
        for step in steps:
            writer.write(step, {"train/loss": value})


def test_lines_are_strict_json_with_the_step_first(tmp_path, capsys):
    with metrics.MetricWriter(tmp_path, start_step=0, total_steps=9) as writer:
        writer.write(
            np.int64(3),
            {
                "train/itc_loss": np.float32(0.1),
                "train/itm_loss": math.nan,
                "eval/a/recall_at_1": 0.25,
                "train/rate": np.array([math.inf]),
                "train/pairs": np.int32(7),
            },
        )
        assert lines_of(tmp_path) == [
            {
                "step": 3,
                "train/itc_loss": 0.1,
                "train/itm_loss": None,
                "eval/a/recall_at_1": 0.25,
                "train/rate": None,
                "train/pairs": 7,
            }
        ]
    assert (tmp_path / "metrics.jsonl").read_text().startswith('{"step": 3, ')
    assert capsys.readouterr().out.splitlines() == [
        "step 3/9  train: itc_loss 0.1, itm_loss nan, rate inf, pairs 7",
        "step 3/9  eval/a: recall_at_1 0.25",
    ]
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_values_that_are_no_numbers_are_refused(tmp_path):
    with metrics.MetricWriter(tmp_path, start_step=0, total_steps=9) as writer:
        for value in (np.ones(2), "1", None):
            with pytest.raises(ValueError, match="'loss' is .*; a metric is one number"):
                writer.write(1, {"loss": value})
    assert lines_of(tmp_path) == []


def test_a_restart_drops_later_steps_and_a_cut_line(tmp_path):
    write(tmp_path, [0, 2, 4, 6])
    path = tmp_path / "metrics.jsonl"
    for cut in (1, 5, 20):
        with open(path, "ab") as file:
            file.write(b'{"step": 8, "train/loss": 1.5}'[:cut])
        write(tmp_path, [6], start_step=4, value=2.0)
        assert [(line["step"], line["train/loss"]) for line in lines_of(tmp_path)] == [
            (0, 1.0),
            (2, 1.0),
            (4, 1.0),
            (6, 2.0),
        ]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["metrics.jsonl", "tensorboard"]


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "train/loss": 1.0}')
    write(tmp_path, [2], start_step=1)
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2]


def test_step_zero_starts_anew_and_none_keeps_all(tmp_path):
    write(tmp_path, [0, 5])
    write(tmp_path, [3], start_step=None)
    assert [line["step"] for line in lines_of(tmp_path)] == [0, 5, 3]
    write(tmp_path, [1])
    assert [line["step"] for line in lines_of(tmp_path)] == [1]


def test_a_spoilt_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    spoilt = '{"step": 1}\n{"loss": 2}\n{"step": 3}\n'
    path.write_text(spoilt)
    with pytest.raises(
        ValueError, match=r"metrics.jsonl, line 2: .*integer `step`; repair or delete"
    ):
        metrics.MetricWriter(tmp_path, start_step=1, total_steps=9)
    assert path.read_text() == spoilt


def test_only_the_first_process_writes(tmp_path):
    writer = metrics.MetricWriter(tmp_path / "new", start_step=0, total_steps=9, enabled=False)
    writer.write(1, {"loss": 1.0})
    writer.close()
    assert not (tmp_path / "new").exists()


def test_every_line_written_survives_a_kill(tmp_path):
    script = (
        "import sys, os, signal; from vlmo_jax.reports import metrics\n"
        "writer = metrics.MetricWriter(sys.argv[1], start_step=0, total_steps=9)\n"
        "for step in range(50): writer.write(step, {'loss': 1.0})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=root,
        env=os.environ,
        stdout=subprocess.DEVNULL,
    )
    assert done.returncode == -signal.SIGKILL
    assert [line["step"] for line in lines_of(tmp_path)] == list(range(50))


def test_read_metrics_takes_the_later_line_of_a_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 2, "a": 1}\n{"step": 1, "a": null, "b": 5}\n{"step": 2, "a": 3}\n{"step": 3, "a"'
    )
    series = metrics.read_metrics(path)
    assert sorted(series) == ["a", "b"]
    np.testing.assert_array_equal(series["a"][0], [1, 2])
    np.testing.assert_array_equal(series["a"][1], [math.nan, 3])
    np.testing.assert_array_equal(series["b"], [[1], [5]])


def test_weighted_means():
    means = metrics.WeightedMeans()
    means.add({"a": (np.float32(2), 1), "b": (0.0, 0)})
    means.add({"a": (10, 3)})
    taken = means.take()
    assert taken["a"] == 3.0 and math.isnan(taken["b"])
    assert means.take() == {}


def test_stopwatch_shares(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    stopwatch = metrics.Stopwatch()
    for wait, work in ((1, 2), (2, 3)):
        with stopwatch("data"):
            now[0] += wait
        now[0] += work
    assert stopwatch.lap() == (8.0, {"data": 3 / 8})
    now[0] += 1
    assert stopwatch.lap() == (1.0, {})


def test_progress_bar_shows_the_run(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = metrics.ProgressBar(200, start_step=50)
    bar.update(
        100,
        samples_per_second=321.4,
        data_wait=0.034,
        losses={"train/itc_loss": 2.5, "itm_loss": 0.69},
    )
    bar.close()
    shown = capsys.readouterr().err
    assert "step 100/200  50%" in shown
    assert "321 samples/s, data wait 3%, itc 2.500, itm 0.690" in shown


def test_a_log_gets_one_line_a_step(tmp_path, capsys):
    bar = metrics.ProgressBar(2)
    with metrics.MetricWriter(tmp_path, start_step=0, total_steps=2) as writer:
        for step in (1, 2):
            bar.update(step, samples_per_second=321.4, losses={"train/loss": 2.5})
            writer.write(step, {"train/loss": 2.5})
    bar.close()
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"step {step}/2  train: loss 2.5" for step in (1, 2)]
    assert err == ""


def test_a_log_says_how_long_it_will_take(tmp_path, capsys):
    with metrics.MetricWriter(tmp_path, start_step=0, total_steps=100) as writer:
        writer.write(40, {"train/loss": 2.5}, seconds_left=3671.0)
    assert capsys.readouterr().out == "step 40/100 (1:01:11 left)  train: loss 2.5\n"


def test_progress_passes_items_through(capsys):
    assert list(
        metrics.progress(iter("abc"), total=3, description="letters", unit="letter")
    ) == list("abc")
    assert capsys.readouterr().err == ""


def test_names_of_parts_of_splits_go_to_tensorboard_without_a_word(tmp_path, caplog):
    caplog.set_level("INFO")
    with metrics.MetricWriter(tmp_path, start_step=None, total_steps=1) as writer:
        writer.write(1, {"eval/drawings_test[:8]/mean_recall": 0.5})
    assert "illegal" not in caplog.text
    assert "eval/drawings_test[:8]/mean_recall" in metrics.read_metrics(tmp_path / "metrics.jsonl")
