"""PyTorch's input that ours is compared with: the same work on a pair."""

import numpy as np
import pytest
from PIL import Image

from configs import stage1
from tests import tiny
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.input.images import randaugment

torch = pytest.importorskip("torch", reason="torch is not installed (extra `convert`)")

from vlmo_jax.bench import input_peer  # noqa: E402 - needs torch


def test_both_are_measured_in_one_run(monkeypatch):
    monkeypatch.setattr(input_peer, "ROUNDS", 1)
    config = tiny.config()
    config.data.update(num_workers=0, num_threads=1, prefetch=1, randaugment=(2, 7))
    record = input_peer.benchmark_beside_peer(config, seconds=0.01, num_workers=0).record
    ours = record["records_per_second"]["all, pipeline"]
    assert record["times_on_the_clock"] == pytest.approx(ours / record["peer_records_per_second"])
    with pytest.raises(ConfigError, match="has no peer in PyTorch"):
        input_peer.benchmark_beside_peer(stage1.get_config(), seconds=0.01, num_workers=0)


def test_its_operations_are_ours():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))
    ours = randaugment.OPERATIONS.values()
    for here, there in zip(ours, input_peer._OPERATIONS, strict=True):
        results = [np.asarray(change(image, -0.7, (9, 8, 7))) for change in (here, there)]
        assert (results[0] == results[1]).all()
