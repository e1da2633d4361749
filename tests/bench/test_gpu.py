"""`bench gpu`: its plan, parts that fail, its table, and its parts at small size."""

import sys

import pytest

from vlmo_jax.bench import gpu, gpu_steps
from vlmo_jax.bench.attention import Shape, benchmark_attention

STEP = {"what": "step", "way": "as it is", "accumulation": 1, "model_flops_per_sample": 4e9}
FLAG = "--xla_gpu_enable_triton_gemm"
GIB = 2**30
RECORDS = [
    {
        "part": "device",
        "what": "peak",
        "matmul_flops": 8e11,
        "copy_bytes_per_second": 4e12,
        "device_kind": "NVIDIA H100",
        "xla_flags": f"{FLAG}=false",
    },
    {"part": "base", **STEP, "batch_size": 128, "samples_per_second": 90.0},
    {
        "part": "base",
        **STEP,
        "batch_size": 1024,
        "samples_per_second": 120.0,
        "accumulation": 4,
    },
    {"part": "peer", **STEP, "batch_size": 64, "samples_per_second": 30.0},
    {"part": "peer", **STEP, "way": "compiled", "batch_size": 64, "samples_per_second": 60.0},
    {"part": "peer", **STEP, "way": "slow", "batch_size": 64, "samples_per_second": 40.0},
    {"part": "large", "what": "failed", "reason": "no memory"},
    {"part": "peer", "what": "left out", "reason": "PyTorch is not installed here"},
]


def test_the_table_states_shares_and_ratios():
    lines = gpu.format_table(RECORDS).splitlines()
    assert "products 800 GFLOP/s, copies 4 TB/s" in lines[0] and f"{FLAG}=false" in lines[0]
    assert "as it is, batch 128 " in lines[1]
    assert lines[1].endswith("90 a second, 45.0% of the measured peak, 1.50 x PyTorch's")
    assert "batch 1024 in 4 parts" in lines[2] and "60.0%" in lines[2] and "2.00 x" in lines[2]
    assert not [line for line in lines[3:6] if "PyTorch's" in line] and "compiled" in lines[4]
    assert lines[6].endswith("no memory") and lines[7].endswith("not installed here")


def test_the_largest_batch_follows_from_the_memory():
    largest = gpu_steps.largest_batch
    assert largest("base", "none", 128.6 * GIB) == 352  # (0.9 * 128.6 - 2.3) / (1.2 * 0.2684)
    assert largest("base", "block", 128.6 * GIB) > 1024 > largest("base", "block", 73 * GIB)
    assert largest("large", "block", 73 * GIB) < largest("large", "block", 128.6 * GIB) < 1024
    assert largest("large", "none", GIB) == 8


def test_flags_for_xla_leave_room_for_those_that_are_there():
    given = lambda variables, small=False: gpu.process_variables(variables, small=small)
    assert given({})["XLA_FLAGS"] == f"{FLAG}=false"
    assert given({"XLA_FLAGS": "--other=1"})["XLA_FLAGS"] == f"--other=1 {FLAG}=false"
    assert given({"XLA_FLAGS": f"{FLAG}=true"})["XLA_FLAGS"] == f"{FLAG}=true"
    assert FLAG not in given({}, small=True)["XLA_FLAGS"]
    assert given({gpu.MEMORY_SHARE[0]: "0.5"})[gpu.MEMORY_SHARE[0]] == "0.5"


def test_the_plan_takes_less_than_nine_minutes(tmp_path):
    text = gpu.describe_plan(tmp_path / "gpu.jsonl", small=False)
    assert all(f"--part={name}" in text for name in gpu.PARTS) and f"{FLAG}=false" in text
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


def test_a_part_may_use_what_those_before_it_left(tmp_path, monkeypatch):
    commands = {"device": "pass", "base": "import time; time.sleep(1.5)"}
    monkeypatch.setattr(
        gpu, "PARTS", {"device": gpu.Part(8, "", None), "base": gpu.Part(0.5, "", None)}
    )
    monkeypatch.setattr(
        gpu,
        "plan",
        lambda path, small: [(n, [sys.executable, "-c", c]) for n, c in commands.items()],
    )
    assert not gpu.run_all(tmp_path / "gpu.jsonl", small=True, say=lambda line: None)


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


def measured(monkeypatch, fits, part, *, small=False):
    """(Batch, parts, whether blocks are scanned) of the steps that a part tries where `fits` pairs
    fit, and its records.
    """
    tries = []

    def measure(config, *, steps, warmup):
        tries.append((config.batch_size, config.accumulation, config.model.scan_layers))
        if config.batch_size > fits * config.accumulation:
            raise gpu_steps.jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return type("Report", (), {"record": {"batch_size": config.batch_size}})

    monkeypatch.setattr(gpu_steps, "benchmark_train", measure)
    monkeypatch.setattr(gpu_steps, "device_bytes", lambda: 73 * GIB)
    return tries, list(gpu.PARTS[part].run(small))


def test_steps_at_small_size(monkeypatch):
    tries, records = measured(monkeypatch, 10, "base", small=True)
    assert [of[:2] for of in tries] == [(8, 1), (16, 2)] and len(records) == 2


def test_each_way_compiles_as_few_programs_as_it_can(monkeypatch):
    tries, records = measured(monkeypatch, 1000, "base_unrolled")
    assert tries == [(192, 1, False)] and "unrolled" in records[0]["way"]
    tries, records = measured(monkeypatch, 1000, "base")
    assert tries == [(920, 1, True), (1024, 2, True)]
    assert all("recipe" in record["way"] for record in records)


def test_where_memory_runs_out_the_batch_is_smaller(monkeypatch):
    tries, records = measured(monkeypatch, 600, "base")
    assert [of[:2] for of in tries] == [(920, 1), (688, 1), (512, 1), (1024, 2)]
    assert [record["batch_size"] for record in records] == [512, 1024]


@pytest.mark.parametrize("small", [False, True])
def test_of_pytorch_the_step_that_is_known_soon_is_first(monkeypatch, small):
    tries = []

    def measure(config, *, steps, warmup, compiled):
        tries.append((config.batch_size, compiled))
        return type("Report", (), {"record": {"batch_size": config.batch_size // 2}})

    monkeypatch.setitem(
        sys.modules, "vlmo_jax.bench.peer", type("peer", (), {"benchmark_peer": measure})
    )
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: name)
    ways = [record["way"] for record in gpu.PARTS["peer"].run(small)]
    assert tries == ([(4, False)] if small else [(128, False), (64, True)])
    assert ways == ["PyTorch, not compiled", "PyTorch, compiled blocks"][: len(tries)]
