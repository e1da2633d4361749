"""Everything that one wants to know of a rented or lent GPU, part by part, within a few minutes.

Each part is a process of its own with a limit of time: it has the card's memory to itself, and what
it dies of is its own affair. A part that ends early leaves its time to those after it. A result is
a line of JSON as soon as it is known.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax

from vlmo_jax.bench.attention import Shape, benchmark_attention
from vlmo_jax.bench.device import measure_copy, measure_matmul
from vlmo_jax.bench.gpu_steps import AS_IT_IS, UNROLLED, Record, measure_steps, read_recipe
from vlmo_jax.bench.report import quantity
from vlmo_jax.bench.steps import benchmark_encode
from vlmo_jax.models.sizes import compute_dtype
from vlmo_jax.parallel.memory import device_bytes

# XLA tries products written in Triton for every shape: more than half of the compilation of a step,
# for 1 % of its time.
WITHOUT_TRITON = "--xla_gpu_enable_triton_gemm=false"
MEMORY_SHARE = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")


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
        Shape(1024, 237, 12, 64),  # base, the four fused passes of 256 pairs
        Shape(256, 197, 12, 64),  # base, images
        Shape(512, 237, 16, 64),  # large, fused
    ]
    for shape in [Shape(4, 21, 2, 16)] if small else shapes:
        for path in ("xla", "cudnn"):
            yield benchmark_attention(shape, path, repeats=3 if small else 20)


def measure_encoding(small: bool) -> Iterator[Record]:
    """Images, texts and fused pairs a second."""
    config = read_recipe("base", small=small)
    config.evals.retrieval.batch_size = 8 if small else 512
    report = benchmark_encode(config, steps=3 if small else 10, warmup=2)
    for name in ("images", "texts", "pairs"):
        yield {"what": name, **report.record[name]}


def measure_peer(small: bool) -> Iterator[Record]:
    """The official structure in PyTorch: as it is written, which is known soon, then compiled."""
    if importlib.util.find_spec("torch") is None:
        yield {"what": "left out", "reason": "PyTorch is not installed here"}
        return
    from vlmo_jax.bench.peer import benchmark_peer  # here, because nothing else needs torch

    config = read_recipe("base", small=small)
    config.batch_size = 4 if small else 128
    for compiled in (False,) if small else (False, True):
        report = benchmark_peer(config, steps=3 if small else 10, warmup=2, compiled=compiled)
        way = "PyTorch, compiled blocks" if compiled else "PyTorch, not compiled"
        yield {"what": "step", "way": way, **report.record}
        config.batch_size = report.record["batch_size"]  # the largest of those tried that fits


# In this order: what matters most is known first.
PARTS = {
    "device": Part(30, "matrix products, copies", measure_device),
    "base_unrolled": Part(
        85, "step of base, unrolled blocks, nothing recomputed", measure_steps("base", UNROLLED)
    ),
    "base": Part(80, "step of base, the recipe as it is", measure_steps("base", AS_IT_IS)),
    "peer": Part(150, "PyTorch's step of base, not compiled, compiled", measure_peer),
    "large": Part(90, "step of large, the recipe as it is", measure_steps("large", AS_IT_IS)),
    "encode": Part(40, "base: images, texts, pairs a second", measure_encoding),
    "attention": Part(60, "attention of a layer by shape and path", measure_attention),
}
PEERS = {"base": "peer", "base_unrolled": "peer"}


def run_part(name: str, path: pathlib.Path, *, small: bool) -> None:
    """Runs a part in this process.

    Args:
        name: of PARTS.
        path: file to which each record is added as a line of JSON.
        small: sizes for a trial.
    """
    common = {"part": name, "xla_flags": os.environ.get("XLA_FLAGS", "")}
    if name == "peer":
        jax.config.update("jax_platforms", "cpu")  # the card is PyTorch's
        del common["xla_flags"]
    for record in PARTS[name].run(small):
        with path.open("a") as file:
            file.write(json.dumps({**common, **record}) + "\n")


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU; asked without taking its memory."""
    return os.path.exists("/dev/nvidiactl")


def plan(path: pathlib.Path, *, small: bool) -> list[tuple[str, list[str]]]:
    """The parts and the commands that run them."""
    flags = [f"--json={path}", *(["--small"] if small else [])]
    start = [sys.executable, "-m", "vlmo_jax.bench", "gpu"]
    return [(name, [*start, f"--part={name}", *flags]) for name in PARTS]


def process_variables(variables: Mapping[str, str], *, small: bool) -> dict[str, str]:
    """The environment variables that the parts are given, beside those that there are.

    Args:
        variables: those that there are; what they say of the same stays.
        small: a trial, which compiles far longer than it runs.
    """
    flags, (share, part) = variables.get("XLA_FLAGS", ""), MEMORY_SHARE
    ours = "--xla_backend_optimization_level=0" if small else WITHOUT_TRITON
    if ours.partition("=")[0] not in flags:
        flags = f"{flags} {ours}".strip()
    return {"XLA_FLAGS": flags, share: variables.get(share, part)}


def describe_plan(path: pathlib.Path, *, small: bool) -> str:
    """The plan for people: parts, limits, environment and commands."""
    rows = [
        f"  {name:<12}{PARTS[name].seconds:>4.0f} s  {PARTS[name].what}\n{'':20}"
        + " ".join(["python", *command[1:]])
        for name, command in plan(path, small=small)
    ]
    total = sum(part.seconds for part in PARTS.values())
    given = [f"  {k}={v!r}" for k, v in process_variables(os.environ, small=small).items()]
    head = (
        f"{len(rows)} parts, {total / 60:.1f} minutes at most; what one leaves, the next may use:"
    )
    return "\n".join([head, *rows, "each with", *given])


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
    variables = {**os.environ, **process_variables(os.environ, small=small)}
    until = time.monotonic()
    for name, command in plan(path, small=small):
        start = time.monotonic()
        until += PARTS[name].seconds
        failure = _run(command, until - start, variables)
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
    """The table of records: shares of the measured peak on official FLOPs, ratios to PyTorch's
    fastest step.
    """
    peak = next((record["matmul_flops"] for record in records if "matmul_flops" in record), None)
    rates: dict[str, float] = {}  # the fastest of each part
    for record in records:
        if "samples_per_second" in record:
            part, rate = record["part"], record["samples_per_second"]
            rates[part] = max(rate, rates.get(part, 0.0))
    lines = []
    for record in records:
        part = record["part"]
        if "reason" in record:
            lines.append((part, record["what"], record["reason"]))
        elif "matmul_flops" in record:
            copy = quantity(record["copy_bytes_per_second"], "B/s")
            products = quantity(record["matmul_flops"], "FLOP/s")
            found = f"products {products}, copies {copy}; XLA_FLAGS={record['xla_flags']!r}"
            lines.append((part, record["device_kind"], found))
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
        what = f"{record['way']}, batch {record['batch_size']}"
        what += f" in {parts} parts" if parts > 1 else ""
    found = f"{rate:.4g} a second"
    if peak:
        found += f", {rate * record['model_flops_per_sample'] / peak:.1%} of the measured peak"
    if peer:
        found += f", {rate / peer:.2f} x PyTorch's"
    return what, found
