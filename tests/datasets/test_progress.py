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
