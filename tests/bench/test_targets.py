"""Devices that are compiled for only: what XLA is told of them, and names that are refused."""

import re

import pytest

from vlmo_jax.bench import targets
from vlmo_jax.bench.roofline import find_chip
from vlmo_jax.commands.config_errors import ConfigError


@pytest.mark.parametrize("kind", targets.GPUS)
def test_a_description_has_every_field_once(kind):
    text = targets.describe(targets.GPUS[kind])
    inside = text.partition("gpu_device_info {")[2].partition("\n}")[0]
    fields = re.findall(r"^  (\w+)(?::| {)", inside, re.MULTILINE)
    assert len(fields) == len(set(fields)) >= 20
    assert text.count("{") == text.count("}") and "None" not in text


@pytest.mark.parametrize("kind", targets.GPUS)
def test_a_gpu_has_the_memory_that_its_maker_publishes(kind):
    chip, gpu = find_chip(f"{kind}:8"), targets.GPUS[kind]
    assert gpu.memory == pytest.approx(chip.memory, rel=0.08)
    assert gpu.bandwidth == pytest.approx(chip.bandwidth, rel=0.05)


@pytest.mark.parametrize("name", ["h100:0", "h100:2x", "h200:8x8x8", "a100:two"])
def test_machines_that_cannot_be_are_refused(name):
    with pytest.raises(ConfigError, match=f"--topology={name}: use .*:4x8 for four"):
        targets.topology_devices(name)


def test_without_the_plugin_one_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(targets, "CUDA_PLUGINS", ("no_such_package.plugin",))
    with pytest.raises(ConfigError, match=re.escape("pip install -e '.[cuda]' (no GPU is needed)")):
        targets.topology_devices("h100:8")
