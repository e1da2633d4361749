"""Everything that one wants to know of a rented or lent GPU, part by part, within a few minutes.

Each part is a process of its own with a limit of time: it has the card's memory to itself, and what
it dies of is its own affair. A result is a line of JSON as soon as it is known.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from vlmo_jax.bench.attention import Shape, benchmark_attention
from vlmo_jax.bench.device import measure_copy, measure_matmul
from vlmo_jax.bench.report import quantity
from vlmo_jax.bench.steps import benchmark_encode, benchmark_train
from vlmo_jax.commands.command_line import read_config
from vlmo_jax.models.sizes import compute_dtype
from vlmo_jax.parallel.memory import device_bytes

Record = dict[str, Any]

RECIPE = "configs/stage3.py"
WHOLE_BATCH = 1024  # of the paper's recipe
SMALL_BATCH = 16  # in its place in a trial on CPU
HEADROOM = 0.9  # of the memory: what an analysis of a program leaves out


class Part(NamedTuple):
    """A part of the measurement.

    Attributes:
        seconds: that it may take.
        what: it measures, in words.
        run: function of `small` that yields records.
    """

    seconds: float
    what: str
    run: Callable[[bool], Iterator[Record]]


def measure_device(small: bool) -> Iterator[Record]:
    """The card's peak in matrix products and copies, which shares are stated of."""
    device, dtype = jax.local_devices()[0], compute_dtype("auto")
    yield {
        "what": "peak",
        "matmul_flops": measure_matmul(device, dtype, 512 if small else 8192, repeats=20),
        "copy_bytes_per_second": measure_copy(device, 2**24 if small else 2**31),
        "dtype": dtype,
        "device_kind": device.device_kind,
        "memory_bytes": device_bytes(),
        "jax": jax.__version__,
    }


def measure_attention(small: bool) -> Iterator[Record]:
    """Attention of a layer by both paths."""
    shapes = [
        Shape(256, 197, 12, 64),  # base, images
        Shape(1024, 237, 12, 64),  # base, the four fused passes of 256 pairs
        Shape(512, 237, 16, 64),  # large, fused
        Shape(1024, 237, 16, 34, False),  # base_plus, fused, whose heads cuDNN does not take
        Shape(1024, 40, 12, 64),  # base, texts
    ]
    for shape in [Shape(4, 21, 2, 16)] if small else shapes:
        for path in ("xla", "cudnn"):
            yield benchmark_attention(shape, path, repeats=3 if small else 20)


def measure_steps(size: str, first: int) -> Callable[[bool], Iterator[Record]]:
    """The step of a size: at a batch that fits for certain, at the largest that fits, and at that
    of the paper by accumulation.
    """

    def run(small: bool) -> Iterator[Record]:
        config, whole = _config(size, small), SMALL_BATCH if small else WHOLE_BATCH
        config.batch_size = 4 if small else first
        record = yield from _measure_step(config, small)
        largest = min(whole, largest_batch(record, device_bytes()))
        if largest > config.batch_size:
            config.batch_size = largest
            record = yield from _measure_step(config, small)
        if record["batch_size"] < whole:
            config.accumulation = next(
                parts
                for parts in (2**power for power in range(11))
                if whole // parts <= record["batch_size"]
            )
            config.batch_size = whole
            yield from _measure_step(config, small)

    return run


def _measure_step(config: ConfigDict, small: bool) -> Generator[Record, None, Record]:
    """Yields the record of a step, and returns it; of the next smaller batch where it needs more
    memory than there is.
    """
    while True:
        try:
            report = benchmark_train(config, steps=3 if small else 10, warmup=2)
        except jax.errors.JaxRuntimeError as error:
            smaller = config.batch_size * 3 // 4 // 8 * 8
            if "RESOURCE_EXHAUSTED" not in str(error) or config.accumulation > 1 or not smaller:
                raise
            config.batch_size = smaller
            continue
        yield {"what": "step", **report.record}
        return report.record


def largest_batch(record: Mapping[str, Any], memory: int) -> int:
    """The largest batch, a multiple of 8, that fits by what a smaller one needed.

    Args:
        record: of `benchmark_train`.
        memory: bytes of the device.
    """
    fixed = record["argument_bytes"]
    each = (record["compiled_bytes"] - fixed) / record["batch_size"]
    return max(record["batch_size"], int((HEADROOM * memory - fixed) / each) // 8 * 8)


def measure_encoding(small: bool) -> Iterator[Record]:
    """Images, texts and fused pairs a second."""
    config = _config("base", small)
    config.evals.retrieval.batch_size = 8 if small else 512
    report = benchmark_encode(config, steps=3 if small else 10, warmup=2)
    for name in ("images", "texts", "pairs"):
        yield {"what": name, **report.record[name]}


def measure_peer(size: str, first: int) -> Callable[[bool], Iterator[Record]]:
    """The official structure in PyTorch."""

    def run(small: bool) -> Iterator[Record]:
        if importlib.util.find_spec("torch") is None:
            yield {"what": "left out", "reason": "PyTorch is not installed here"}
            return
        from vlmo_jax.bench.peer import benchmark_peer  # here, because nothing else needs torch

        config = _config(size, small)
        config.batch_size = 4 if small else first
        report = benchmark_peer(config, steps=3 if small else 10, warmup=2 if small else 3)
        yield {"what": "step", **report.record}

    return run


def _config(size: str, small: bool) -> ConfigDict:
    if small:
        fields = {"depth": 2, "width": 32, "num_heads": 2, "mlp_dim": 64, "vocab_size": 512}
        return read_config(f"{RECIPE}:tiny", {f"model.{key}": n for key, n in fields.items()})
    return read_config(f"{RECIPE}:{size}", {})


# In this order: what matters most is known first.
PARTS = {
    "device": Part(30, "matrix products, copies", measure_device),
    "attention": Part(60, "attention of a layer by path and shape", measure_attention),
    "base": Part(125, "steps of base: largest batch, 1,024", measure_steps("base", 128)),
    "peer": Part(85, "PyTorch's step of base", measure_peer("base", 256)),
    "large": Part(140, "steps of large: largest batch, 1,024", measure_steps("large", 64)),
    "encode": Part(45, "base: images, texts, pairs a second", measure_encoding),
    "peer_large": Part(50, "PyTorch's step of large", measure_peer("large", 128)),
}
PEERS = {"base": "peer", "large": "peer_large"}


def run_part(name: str, path: pathlib.Path, *, small: bool) -> None:
    """Runs a part in this process.

    Args:
        name: of PARTS.
        path: file to which each record is added as a line of JSON.
        small: sizes for a trial.
    """
    if name.startswith("peer"):
        jax.config.update("jax_platforms", "cpu")  # the card is PyTorch's
    for record in PARTS[name].run(small):
        with path.open("a") as file:
            file.write(json.dumps({"part": name, **record}) + "\n")


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU; asked without taking its memory."""
    return os.path.exists("/dev/nvidiactl")


def plan(path: pathlib.Path, *, small: bool) -> list[tuple[str, list[str]]]:
    """The parts and the commands that run them."""
    flags = [f"--json={path}", *(["--small"] if small else [])]
    start = [sys.executable, "-m", "vlmo_jax.bench", "gpu"]
    return [(name, [*start, f"--part={name}", *flags]) for name in PARTS]


def describe_plan(path: pathlib.Path, *, small: bool) -> str:
    """The plan for people: parts, limits and commands."""
    rows = [
        f"  {name:<12}{PARTS[name].seconds:>4.0f} s  {PARTS[name].what}\n{'':20}"
        + " ".join(["python", *command[1:]])
        for name, command in plan(path, small=small)
    ]
    total = sum(part.seconds for part in PARTS.values())
    return "\n".join([f"{len(rows)} parts, {total / 60:.1f} minutes at most:", *rows])


def run_all(path: pathlib.Path, *, small: bool, say: Callable[[str], None]) -> list[Record]:
    """Runs all parts, one after another, whatever becomes of them.

    Args:
        path: file of the records; a line is added for a part that fails, too.
        small: sizes for a trial.
        say: tells people a line.

    Returns:
        The records.
    """
    before = len(read_records(path))
    variables = dict(os.environ)
    variables.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")
    if small:  # a trial compiles far longer than it runs
        level = "--xla_backend_optimization_level=0"
        variables["XLA_FLAGS"] = f"{variables.get('XLA_FLAGS', '')} {level}".strip()
    for name, command in plan(path, small=small):
        start = time.monotonic()
        failure = _run(command, PARTS[name].seconds, variables)
        took = f"{time.monotonic() - start:.0f} s"
        if failure:
            with path.open("a") as file:
                file.write(json.dumps({"part": name, "what": "failed", "reason": failure}) + "\n")
        say(f"{name}: {failure or 'done'} ({took})")
    return read_records(path)[before:]


def _run(command: list[str], seconds: float, variables: Mapping[str, str]) -> str:
    """Runs a command; returns what became of it in words, "" if all went well."""
    try:
        ended = subprocess.run(
            command, env=dict(variables), timeout=seconds, capture_output=True, text=True
        )
    except subprocess.TimeoutExpired:
        return f"not finished after {seconds:.0f} s; what it had found is kept"
    if ended.returncode == 0:
        return ""
    lines = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    return (lines or [f"ended with status {ended.returncode}"])[-1][:300]


def read_records(path: pathlib.Path) -> list[Record]:
    """The records of a file; [] where there is none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def format_table(records: list[Record]) -> str:
    """The table of records: shares of the measured peak on official FLOPs, ratios to PyTorch."""
    peak = next((record["matmul_flops"] for record in records if "matmul_flops" in record), None)
    rates = {r["part"]: r["samples_per_second"] for r in records if "samples_per_second" in r}
    lines = []
    for record in records:
        part = record["part"]
        if "reason" in record:
            lines.append((part, record["what"], record["reason"]))
        elif "matmul_flops" in record:
            copy = quantity(record["copy_bytes_per_second"], "B/s")
            products = quantity(record["matmul_flops"], "FLOP/s")
            lines.append((part, record["device_kind"], f"products {products}, copies {copy}"))
        elif "path" in record:
            lines.append((part, *_attention_row(record)))
        else:
            lines.append((part, *_speed_row(record, peak, rates.get(PEERS.get(part, "")))))
    widths = [max(len(line[column]) for line in lines) + 2 for column in range(2)]
    return "\n".join(
        f"{part:<{widths[0]}}{what:<{widths[1]}}{found}" for part, what, found in lines
    )


def _attention_row(record: Record) -> tuple[str, str]:
    what = f"{record['path']}, {record['rows']} x {record['tokens']} tokens, {record['heads']}"
    what += f" heads of {record['head_width']}"
    if "skipped" in record:
        return what, f"left out: {record['skipped']}"
    forward, both = record["seconds_forward"], record["seconds_with_gradients"]
    rate = quantity(record["flops_per_second"], "FLOP/s")
    return what, f"{1e3 * forward:.3g} ms, with gradients {1e3 * both:.3g} ms, {rate}"


def _speed_row(record: Record, peak: float | None, peer: float | None) -> tuple[str, str]:
    rate = record["samples_per_second"]
    what = record["what"]
    if what == "step":
        parts = record["accumulation"]
        what += f", batch {record['batch_size']}" + (f" in {parts} parts" if parts > 1 else "")
    found = f"{rate:.4g} a second"
    if peak:
        found += f", {rate * record['model_flops_per_sample'] / peak:.1%} of the measured peak"
    if peer:
        found += f", {rate / peer:.2f} x PyTorch's"
    return what, found
