"""Measures a recipe, and search.

    python -m vlmo_jax.bench train    --config=configs/stage3.py:base [--config.batch_size=4 ...]
    python -m vlmo_jax.bench peer     --config=configs/stage3.py:base --config.batch_size=4
    python -m vlmo_jax.bench encode   --config=configs/stage3.py:base [--config.evals...=...]
    python -m vlmo_jax.bench input    --config=configs/stage3.py:base [--peer=2]
    python -m vlmo_jax.bench topology --config=configs/stage3.py:large --topology=v5e:4x4 [--search]
    python -m vlmo_jax.bench topology --config=configs/stage3.py:base --scaling=64
    python -m vlmo_jax.bench gpu      [--json=gpu.jsonl --dry_run --small --part=NAME]
    python -m vlmo_jax.bench search   [--vectors=1000000 --dimension=768 --queries=64 --top_k=10]

train: seconds a step, samples/s, share of the device's peak, compile time, memory. peer: the same
step in plain PyTorch, on CPU or an NVIDIA GPU (needs torch, extra `convert`). encode: images/s,
texts/s, fused pairs/s, in batches of config.evals.retrieval.batch_size. input: the input pipeline
alone, of any stage, on the recipe's data set or on 640x480 JPEGs; with --peer beside PyTorch's
DataLoader. topology: what the train step needs and sends on a TPU pod or on GPUs that one does not
have, and which kernels it runs on a GPU; with --search every split of it, counted; with --scaling
what a chip sends on 16 to 1,024 chips. gpu: all that one wants to know of a rented GPU, in 9
minutes. search: exact queries a second among made vectors, which lie in a temporary file of 1.5 GB,
beside what memory and arithmetic allow, and recall against float64.
"""

from vlmo_jax.commands.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before the imports that take seconds

import logging
import sys
from typing import Any

import jax
from absl import app, flags

from vlmo_jax.bench import gpu
from vlmo_jax.bench.data import benchmark_data
from vlmo_jax.bench.report import Report, append_record, format_report
from vlmo_jax.bench.scaling import count_scaling
from vlmo_jax.bench.search import benchmark_search
from vlmo_jax.bench.steps import benchmark_encode, benchmark_train
from vlmo_jax.bench.topology import benchmark_topology, search_topology
from vlmo_jax.commands.command_line import CONFIG, parse_flags
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.paths import user_path
from vlmo_jax.commands.signals import ending_at_once
from vlmo_jax.parallel.distributed import leaving_alone, start_distributed

JSON = flags.DEFINE_string("json", None, "File to which the result is added as one line of JSON")
STEPS = flags.DEFINE_integer(
    "steps", 10, "train, peer, encode, search: steps or batches to measure", lower_bound=1
)
WARMUP = flags.DEFINE_integer(
    "warmup", 2, "train, peer, encode, search: steps or batches before them", lower_bound=1
)
SECONDS = flags.DEFINE_float(
    "seconds", 4.0, "input: how long to measure the pipeline, and one thread", lower_bound=0.0
)
PEER = flags.DEFINE_integer(
    "peer",
    None,
    "input: beside a DataLoader of PyTorch with so many workers, 0 for none (needs torch)",
    lower_bound=0,
)
TOPOLOGY = flags.DEFINE_string(
    "topology",
    "v5e:4x4",
    "topology: TPU slice, such as v4:2x2x2, v5e:4x4, v6e:16x16, or GPUs, such as h100, h200:8",
)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "gpu: show the plan and run nothing")
SMALL = flags.DEFINE_bool(
    "small", False, "gpu: a trial at small sizes, as on a machine without one"
)
PART = flags.DEFINE_enum("part", None, list(gpu.PARTS), "gpu: this part alone, in this process")
SEARCH = flags.DEFINE_boolean(
    "search", False, "topology: count all splits of the recipe over it in place of compiling one"
)
SCALING = flags.DEFINE_integer(
    "scaling",
    None,
    "topology: count what a chip sends on 16 to 1,024 chips with so many rows of the batch each",
    lower_bound=1,
)
COMPILE = flags.DEFINE_integer(
    "compile", 0, "topology --search: how many of the best splits to compile too", lower_bound=0
)
VECTORS = flags.DEFINE_integer("vectors", 1_000_000, "search: how many", lower_bound=1)
DIMENSION = flags.DEFINE_integer("dimension", 768, "search: of each vector", lower_bound=1)
QUERIES = flags.DEFINE_integer("queries", 64, "search: in a batch", lower_bound=1)
TOP_K = flags.DEFINE_integer("top_k", 10, "search: vectors to find for each", lower_bound=1)


def run_train() -> Report:
    """The train step of the recipe."""
    start_distributed()
    return benchmark_train(CONFIG.value, steps=STEPS.value, warmup=WARMUP.value)


def run_peer() -> Report:
    """The same step in PyTorch."""
    from vlmo_jax.bench.peer import benchmark_peer  # here, because nothing else needs torch

    jax.config.update("jax_platforms", "cpu")  # a GPU that is here is PyTorch's
    return benchmark_peer(CONFIG.value, steps=STEPS.value, warmup=WARMUP.value)


def run_encode() -> Report:
    """Encoding and matching of the recipe."""
    start_distributed()
    return benchmark_encode(CONFIG.value, steps=STEPS.value, warmup=WARMUP.value)


def run_input() -> Report:
    """The input pipeline of the recipe."""
    if PEER.value is None:
        return benchmark_data(CONFIG.value, seconds=SECONDS.value)
    from vlmo_jax.bench.input_peer import benchmark_beside_peer  # here: nothing else needs torch

    return benchmark_beside_peer(CONFIG.value, seconds=SECONDS.value, num_workers=PEER.value)


def run_topology() -> Report:
    """The train step compiled for devices that are not here."""
    jax.config.update("jax_platforms", "cpu")  # it is compiled only; what is here stays free
    if SCALING.value:
        return count_scaling(CONFIG.value, topology=TOPOLOGY.value, rows=SCALING.value)
    if SEARCH.value:
        return search_topology(CONFIG.value, topology=TOPOLOGY.value, compiled=COMPILE.value)
    return benchmark_topology(CONFIG.value, topology=TOPOLOGY.value)


def run_search() -> Report:
    """Exact search."""
    if TOP_K.value > VECTORS.value:
        raise ConfigError(f"--top_k={TOP_K.value} must be at most --vectors={VECTORS.value}")
    return benchmark_search(
        rows=VECTORS.value,
        width=DIMENSION.value,
        batch=QUERIES.value,
        top_k=TOP_K.value,
        steps=STEPS.value,
        warmup=WARMUP.value,
    )


def run_gpu() -> None:
    """All that one wants to know of a GPU."""
    path, small = user_path(JSON.value or "gpu.jsonl"), SMALL.value or not gpu.has_gpu()
    if DRY_RUN.value:
        print(gpu.describe_plan(path, small=SMALL.value))
    elif PART.value:
        gpu.run_part(PART.value, path, small=small)
    else:
        records = gpu.run_all(path, small=small, say=lambda line: print(line, flush=True))
        table = gpu.format_table(records)
        path.with_suffix(".txt").write_text(table + "\n")
        print(f"\n{table}\n\nThe records lie in {path}, this table in {path.with_suffix('.txt')}")


BENCHMARKS = {
    "train": run_train,
    "peer": run_peer,
    "encode": run_encode,
    "input": run_input,
    "topology": run_topology,
    "search": run_search,
}
WITHOUT_RECIPE = ("search",)


@told_in_one_line()
def main(argv: list[str]) -> None:
    """Runs the benchmark named and prints its report."""
    if argv[1:] == ["gpu"]:
        logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
        run_gpu()
        return
    if len(argv) != 2 or argv[1] not in BENCHMARKS:
        given = " ".join(argv[1:]) or "nothing"
        sys.exit(
            f"error: {given!r} is no benchmark; name one of {', '.join(BENCHMARKS)}, gpu, then"
            " --config=FILE and other flags"
        )
    if CONFIG.value is None and argv[1] not in WITHOUT_RECIPE:
        sys.exit(f"error: {argv[1]} needs a recipe: --config=configs/stage3.py or another")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    logging.getLogger("absl").setLevel(logging.WARNING)
    with ending_at_once(), leaving_alone():
        report = BENCHMARKS[argv[1]]()
    if jax.process_index() == 0:
        recipe: Any = flags.FLAGS["config"]  # ml_collections adds the file's name to absl's flag
        of_what = f"{recipe.config_filename}, " if argv[1] not in WITHOUT_RECIPE else ""
        print(f"{of_what}{format_report(report)}")
        if JSON.value:
            append_record(report, user_path(JSON.value))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
