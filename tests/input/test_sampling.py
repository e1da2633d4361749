import time

import pytest

from vlmo_jax.input import sampling


def test_every_record_comes_once_an_epoch_in_another_order_each_time():
    order = sampling.RecordOrder(50, seed=3)
    epochs = [[order[epoch * 50 + i] for i in range(50)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert epochs[0] != list(range(50))


def test_the_order_depends_on_seed_and_position_alone():
    positions = [977, 3, 100_000, 3]
    assert [sampling.RecordOrder(50, 3)[p] for p in positions] == [
        sampling.RecordOrder(50, 3)[p] for p in reversed(positions)
    ][::-1]
    orders = {seed: [sampling.RecordOrder(50, seed)[p] for p in range(100)] for seed in (3, 4)}
    assert orders[3][:50] != orders[4][:50]
    assert orders[3][50:] != orders[4][:50], "the second epoch of one seed is the first of the next"


def test_far_positions_of_large_data_cost_no_more():
    start = time.perf_counter()
    order = sampling.RecordOrder(2**31, seed=0)
    assert all(0 <= order[position * 10**12] < 2**31 for position in range(100))
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    "arguments, message",
    [((0, 0), "no records"), ((5, -1), "seed=-1"), ((5, 2**32), f"seed={2**32}")],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        sampling.RecordOrder(*arguments)


def test_each_example_has_randomness_of_its_own():
    keys = [
        (seed, position, attempt)
        for seed in (0, 1)
        for position in (0, 1, 2**40)
        for attempt in (0, 1)
    ]
    draws = {key: tuple(sampling.example_rng(*key).random(4)) for key in keys}
    assert len(set(draws.values())) == len(keys)
    assert all(tuple(sampling.example_rng(*key).random(4)) == draw for key, draw in draws.items())
