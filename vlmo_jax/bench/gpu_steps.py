"""The train step on a GPU: ways to run its blocks, each at the largest batch that fits."""

from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from vlmo_jax.bench.steps import benchmark_train
from vlmo_jax.commands.command_line import read_config
from vlmo_jax.parallel.memory import device_bytes

Record = dict[str, Any]

RECIPE = "configs/stage3.py"
WHOLE_BATCH = 1024  # of the paper's recipe
SMALL_BATCHES = (8, 16)  # in a trial: the batch that "fits", and the whole one
HEADROOM = 0.9  # of the memory: what an analysis of a program leaves out

# GiB that the step needs, by size: its arguments, and what a pair adds by config.model.remat. Of
# programs compiled ahead for an NVIDIA H200 by `bench topology` (bfloat16; "none" with unrolled
# blocks), and MORE_THERE as much, which is what a program took on the card itself: to compile one
# more at a small batch, only to learn this, would take a minute.
MORE_THERE = 1.2
ARGUMENTS = {"base": 2.3, "large": 6.7}
PAIR = {
    "base": {
        "block": MORE_THERE * (17.0 - 2.3) / 256,
        "none": MORE_THERE * (71.0 - 2.3) / 256,
    },
    "large": {
        "block": MORE_THERE * (24.2 - 6.7) / 128,
        "none": MORE_THERE * (53.3 - 6.7) / 64,
    },
}


class Way(NamedTuple):
    """A way to run the blocks.

    Attributes:
        name: in the records.
        fields: of config.model, where they are not the recipe's.
        accumulates: is measured at the paper's batch by accumulation too.
    """

    name: str
    fields: dict[str, Any]
    accumulates: bool


AS_IT_IS = Way("the recipe as it is", {}, accumulates=True)
UNROLLED = Way(
    "unrolled, nothing recomputed", {"remat": "none", "scan_layers": False}, accumulates=False
)


def measure_steps(size: str, way: Way) -> Callable[[bool], Iterator[Record]]:
    """The step of a size at the largest batch that fits, up to that of the paper, and where that
    is smaller, at the paper's by accumulation.
    """

    def run(small: bool) -> Iterator[Record]:
        config = read_recipe(size, small=small)
        config.model.update(way.fields)
        fits = largest_batch(size, config.model.remat, device_bytes())
        fits, whole = SMALL_BATCHES if small else (fits, WHOLE_BATCH)
        config.batch_size = min(fits, whole)
        record = yield from _measure_step(config, way, small)
        if not way.accumulates or record["batch_size"] == whole:
            return
        config.accumulation = next(
            parts
            for parts in (2**power for power in range(11))
            if whole // parts <= record["batch_size"]
        )
        config.batch_size = whole
        yield from _measure_step(config, way, small)

    return run


def largest_batch(size: str, remat: str, memory: int) -> int:
    """The largest batch, a multiple of 8, whose step fits.

    Args:
        size: "base" or "large".
        remat: config.model.remat.
        memory: bytes of the device.
    """
    free = HEADROOM * memory / 2**30 - ARGUMENTS[size]
    return max(8, int(free / PAIR[size][remat]) // 8 * 8)


def _measure_step(config: ConfigDict, way: Way, small: bool) -> Generator[Record, None, Record]:
    """Yields the record of a step, and returns it; of the next smaller batch where it needs more
    memory than there is.
    """
    while True:
        steps = 3 if small else max(3, min(10, 2048 // config.batch_size))  # some seconds of them
        try:
            report = benchmark_train(config, steps=steps, warmup=2)
        except jax.errors.JaxRuntimeError as error:
            smaller = config.batch_size * 3 // 4 // 8 * 8
            if "RESOURCE_EXHAUSTED" not in str(error) or config.accumulation > 1 or not smaller:
                raise
            config.batch_size = smaller
            continue
        yield {"what": "step", "way": way.name, **report.record}
        return report.record


def read_recipe(size: str, *, small: bool) -> ConfigDict:
    """The paper's recipe of a size, or one for a trial."""
    if small:
        fields = {"depth": 2, "width": 32, "num_heads": 2, "mlp_dim": 64, "vocab_size": 512}
        return read_config(f"{RECIPE}:tiny", {f"model.{key}": n for key, n in fields.items()})
    return read_config(f"{RECIPE}:{size}", {})
