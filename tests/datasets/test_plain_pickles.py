"""Plain values and arrays come out of pickles as they went in; whatever else they ask for is
refused and never run.
"""

import builtins
import collections
import os
import pickle

import numpy as np
import pytest

from vlmo_jax.datasets.pickles import BrokenPickleError, CodeInPickleError
from vlmo_jax.datasets.plain_pickles import read_plain

ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    np.arange(3, dtype=">f4"),
    np.zeros((0, 4), np.float16),
    np.asarray([True, False]),
]


def same(found, value):
    assert type(found) is type(value) or isinstance(value, np.generic)
    if isinstance(value, np.ndarray):
        assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_arrays_are_read(protocol):
    values = {"a": 1, "b": [1.5, None, True], "c": ("x", b"\x00\xff"), "d": np.float32(2.5)}
    found = read_plain(pickle.dumps({**values, "arrays": ARRAYS}, protocol))
    assert {name: found[name] for name in values} == values
    for ours, array in zip(found["arrays"], ARRAYS, strict=True):
        same(ours, array)


class Runs:
    def __reduce__(self):
        return os.system, ("touch hostile",)


class Imports:
    def __reduce__(self):
        return builtins.__import__, ("antigravity",)


class Builds:
    """An array whose state is another call."""

    def __reduce__(self):
        function, arguments, _ = np.zeros(2).__reduce__()
        return function, arguments, (1, (2,), np.dtype("f4"), False, Runs())


@pytest.mark.parametrize(
    "value, named",
    [
        (Runs(), "system"),
        ({"features": [Runs()]}, "system"),
        (Imports(), "__import__"),
        (Builds(), "system"),
        (collections.OrderedDict(a=1), "OrderedDict"),
        (np.asarray([{}], object), "O8"),
        (np.asarray(["a"]), "U1"),
    ],
)
@pytest.mark.parametrize("protocol", (2, 4))
def test_whatever_else_is_refused_and_not_run(value, named, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((CodeInPickleError, BrokenPickleError), match=named):
        read_plain(pickle.dumps(value, protocol))
    assert not list(tmp_path.iterdir())


def test_broken_ones_are_refused():
    whole = pickle.dumps({"a": ARRAYS[0]}, 2)
    for data in (b"", b"abc", whole[:-20], whole[: len(whole) // 2], b"\x80\x04N0."):
        with pytest.raises(BrokenPickleError):
            read_plain(data)
    nested = []
    for _ in range(100):
        nested = [nested]
    with pytest.raises(BrokenPickleError, match="deep"):
        read_plain(pickle.dumps(nested))
