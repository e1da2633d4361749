import time

import pytest

from vlmo_jax.datasets import progress


def test_results_come_in_order():
    def late_first(i):
        time.sleep(0.01 if i % 5 == 0 else 0)
        return i * i

    assert list(progress.map_in_order(late_first, range(100), num_threads=4)) == [
        i * i for i in range(100)
    ]


def test_errors_come_through():
    with pytest.raises(ZeroDivisionError):
        list(progress.map_in_order(lambda i: 1 // i, [1, 0], num_threads=2))


def test_a_log_gets_a_line_a_minute(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with progress.RecordBar(1000, 100) as bar:
        for seconds in (59.0, 90.0, 100.0):
            clock[0] = seconds
            bar.update(150)
    assert capsys.readouterr().err == "400 of 1,000 records, 3 a second, 3 min left\n"
