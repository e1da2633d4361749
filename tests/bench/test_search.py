import numpy as np
import pytest

from vlmo_jax.bench import search
from vlmo_jax.bench.report import format_report


def test_search_report(monkeypatch):
    monkeypatch.setattr(search, "_COPIED", 2**20)
    monkeypatch.setattr(search, "_CHUNK", 100)
    report = search.benchmark_search(rows=500, width=32, batch=5, top_k=3, steps=3, warmup=1)
    record = report.record
    assert record["recall"] == 1 and len(record["seconds"]) == 3 and record["bytes"] == 500 * 64
    seconds = record["seconds_median"]
    assert record["queries_per_second"] == pytest.approx(5 / seconds)
    assert record["matrix_bytes_per_second"] == pytest.approx(32000 / seconds)
    assert record["share_of_copy"] == pytest.approx(
        record["queries_per_second"] / record["bandwidth_queries_per_second"]
    )
    assert record["share_of_peak"] == pytest.approx(
        record["queries_per_second"] / record["arithmetic_queries_per_second"]
    )
    text = format_report(report)
    for what in ("queries a second", "recall", "share of a copy", "plain NumPy", "load average"):
        assert what in text


def test_recall_sees_what_is_missing():
    found, truth = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 1, 9], [6, 5, 4]])
    assert search._recall(found, truth) == pytest.approx(5 / 6)
