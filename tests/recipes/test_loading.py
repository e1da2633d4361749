"""How many processes make batches."""

import os

import pytest

from tests import tiny
from vlmo_jax.recipes.data.opening import loading


@pytest.mark.parametrize(
    "cores, asked, started", [(2, 8, 2), (64, 8, 8), (4, 4, 4), (4, 0, 0), (None, 8, 1)]
)
def test_no_more_processes_are_started_than_there_are_cores(monkeypatch, cores, asked, started):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    config = tiny.config()
    config.data.num_workers = asked
    assert loading(config).num_workers == started
