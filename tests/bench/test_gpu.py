"""`bench gpu`: its plan, parts that fail, its table, and its parts at small size."""

import sys

import pytest

from vlmo_jax.bench import gpu
from vlmo_jax.bench.attention import Shape, benchmark_attention

STEP = {"what": "step", "accumulation": 1, "model_flops_per_sample": 4e9}
RECORDS = [
    {
        "part": "device",
        "what": "peak",
        "matmul_flops": 8e11,
        "copy_bytes_per_second": 4e12,
        "device_kind": "NVIDIA H100",
    },
    {"part": "base", **STEP, "batch_size": 128, "samples_per_second": 90.0},
    {
        "part": "base",
        **STEP,
        "batch_size": 1024,
        "samples_per_second": 120.0,
        "accumulation": 4,
    },
    {"part": "peer", **STEP, "batch_size": 64, "samples_per_second": 60.0},
    {"part": "large", "what": "failed", "reason": "no memory"},
    {"part": "peer_large", "what": "left out", "reason": "PyTorch is not installed here"},
]


def test_the_table_states_shares_and_ratios():
    lines = gpu.format_table(RECORDS).splitlines()
    assert "products 800 GFLOP/s, copies 4 TB/s" in lines[0]
    assert lines[1].endswith("90 a second, 45.0% of the measured peak, 1.50 x PyTorch's")
    assert "batch 1024 in 4 parts" in lines[2] and "60.0%" in lines[2] and "2.00 x" in lines[2]
    assert "PyTorch's" not in lines[3]
    assert lines[4].endswith("no memory") and lines[5].endswith("not installed here")


def test_the_largest_batch_follows_from_a_smaller_one():
    record = {"batch_size": 64, "argument_bytes": 10_000, "compiled_bytes": 10_000 + 64 * 100}
    assert gpu.largest_batch(record, 100_000) == 800  # (0.9 * 100,000 - 10,000) / 100
    assert gpu.largest_batch(record, 12_000) == 64  # of which it is known that it fits


def test_the_plan_takes_less_than_nine_minutes(tmp_path):
    text = gpu.describe_plan(tmp_path / "gpu.jsonl", small=False)
    assert all(f"--part={name}" in text for name in gpu.PARTS)
    assert sum(part.seconds for part in gpu.PARTS.values()) < 9 * 60


def test_a_part_that_fails_names_itself_and_the_next_goes_on(tmp_path, monkeypatch):
    path, said = tmp_path / "gpu.jsonl", []
    line = '{"part": "base", "what": "step"}'
    found = f"import pathlib, time; pathlib.Path({str(path)!r}).write_text({line!r} + chr(10))"
    commands = {
        "base": f"{found}; time.sleep(60)",
        "device": "raise SystemExit('no card')",
        "peer": "pass",
    }
    monkeypatch.setattr(gpu, "PARTS", {name: gpu.Part(5, "", None) for name in commands})
    monkeypatch.setattr(
        gpu,
        "plan",
        lambda path, small: [(n, [sys.executable, "-c", c]) for n, c in commands.items()],
    )
    records = gpu.run_all(path, small=True, say=said.append)
    assert [record["what"] for record in records] == ["step", "failed", "failed"]
    assert "not finished after 5 s" in records[1]["reason"] and records[2]["reason"] == "no card"
    assert [text.split(":")[0] for text in said] == list(commands) and "peer: done" in said[2]


def test_attention_of_both_paths():
    shape = Shape(2, 6, 2, 8)
    record = benchmark_attention(shape, "xla", repeats=2)
    assert record["seconds_with_gradients"] > 0 and record["flops_per_second"] > 0
    assert "NVIDIA" in benchmark_attention(shape, "cudnn", repeats=2)["skipped"]


@pytest.mark.parametrize("part", ["device", "peer"])
def test_parts_at_small_size(tmp_path, monkeypatch, part):
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    path = tmp_path / "gpu.jsonl"
    gpu.run_part(part, path, small=True)
    [record] = gpu.read_records(path)
    assert record["part"] == part and record["what"] == {"device": "peak"}.get(part, "left out")


def test_steps_at_small_size(monkeypatch):
    sizes = []

    def measure(config, *, steps, warmup):
        sizes.append((config.batch_size, config.accumulation))
        record = {"batch_size": config.batch_size, "argument_bytes": 0, "compiled_bytes": 100}
        return type("Report", (), {"record": record})

    monkeypatch.setattr(gpu, "benchmark_train", measure)
    monkeypatch.setattr(gpu, "device_bytes", lambda: 250)
    assert len(list(gpu.PARTS["base"].run(True))) == 3
    assert sizes == [(4, 1), (8, 1), (16, 2)]
