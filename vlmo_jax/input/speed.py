"""How fast training batches are made once those that were ready are used up, and what that time is
spent on.
"""

import cProfile
import multiprocessing
import os
import pathlib
import pstats
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from vlmo_jax.input.pipeline import TrainBatches, TrainStep

LEAST_BATCHES = 8  # that are timed, however short the time

# What files of this package do, the longer name first; of other packages: what asked them.
_PACKAGE = pathlib.Path(__file__).parents[1]
_WORK = {
    "datasets/images.py": "decode",
    "datasets": "read",
    "input/images/pixels.py": "crop, resize, flip",
    "input/images/randaugment.py": "RandAugment",
    "input/images/color_jitter.py": "colour jitter",
    "input/images/block_masking.py": "hidden patches",
    "input/images/augmentation.py": "rows, batches",
    "input/images": "other changes of images",
    "input/text": "captions, tokens, masks",
    "input": "rows, batches",
}


class Rate(NamedTuple):
    """How fast batches come.

    Attributes:
        records_per_second: on the clock.
        busy: milliseconds of processor time of all threads and processes for a record, which says
            what a core can do where others use the machine too.
        taking: milliseconds of it that the thread which takes the batches spends.
        batches: how many were timed.
    """

    records_per_second: float
    busy: float
    taking: float
    batches: int

    @property
    def records_per_second_a_core(self) -> float:
        """Of a core that does nothing else."""
        return 1e3 / self.busy


class Speed(NamedTuple):
    """How fast a pipeline is.

    Attributes:
        rate: of all threads and processes, what was ready before left out.
        alone: milliseconds of processor time for a record where one thread does everything.
        parts: what of it goes where, the most first.
    """

    rate: Rate
    alone: float
    parts: dict[str, float]


def measure_speed(batches: TrainBatches, *, seconds: float) -> Speed:
    """Measures a pipeline, and closes it.

    Args:
        batches: of the pipeline; none was taken from it.
        seconds: how long to measure the pipeline, and one thread, roughly.

    Returns:
        Its speed.
    """
    with batches:
        rate = measure_rate(batches, ready=batches.loading.most_ready, seconds=seconds)
    alone, parts = measure_parts(batches.step, seconds)
    return Speed(rate, alone, parts)


def measure_rate(batches: Iterator[Any], *, ready: int, seconds: float) -> Rate:
    """Measures how fast batches come, one asked for as soon as the one before is there.

    Args:
        batches: dicts of arrays [b, ...], at least `ready` + LEAST_BATCHES of them.
        ready: taken before the time begins, as many as may be made before they are asked for.
        seconds: how long to measure at least.

    Returns:
        The rate.
    """
    for _ in range(ready):
        next(batches)
    records = count = 0
    started, busy, taking = time.perf_counter(), _processor_seconds(), time.thread_time()
    while count < LEAST_BATCHES or time.perf_counter() - started < seconds:
        records += len(next(iter(next(batches).values())))
        count += 1
    elapsed, taking = time.perf_counter() - started, time.thread_time() - taking
    busy = _processor_seconds() - busy
    return Rate(records / elapsed, 1e3 * busy / records, 1e3 * taking / records, count)


def _processor_seconds() -> float:
    """Of this process and, as Linux tells it, of those that it has started and that still run."""
    children = multiprocessing.active_children()
    files = (pathlib.Path(f"/proc/{child.pid}/stat") for child in children)
    told = (file.read_text().rpartition(")")[2].split()[11:13] for file in files if file.exists())
    ticks = sum(int(user) + int(system) for user, system in told)
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def measure_parts(step: TrainStep, seconds: float) -> tuple[float, dict[str, float]]:
    """Measures what one thread that makes batches spends on a record.

    Args:
        step: makes the batch of a step.
        seconds: how long to measure, twice: as it is, and with a profiler, which says what the time
            is spent on but takes some itself.

    Returns:
        Milliseconds of processor time a record, and how they are spent, the most first.
    """
    alone = step.on_one_thread()
    alone(0)  # opens files
    records, busy = _make(alone, seconds)
    profile = cProfile.Profile()
    profiled, slower = profile.runcall(_make, alone, seconds)
    spent = _spent(pstats.Stats(profile), slower, slower - profiled * busy / records)
    each = 1e3 * busy / records
    total = sum(spent.values())
    largest_first = sorted(spent, key=lambda work: -spent[work])
    return each, {work: each * spent[work] / total for work in largest_first}


def _make(step: TrainStep, seconds: float) -> tuple[int, float]:
    """Makes batches for so long; returns their records and the seconds of this thread."""
    started, records, number = time.thread_time(), 0, 0
    while not records or time.thread_time() - started < seconds:
        batch, _ = step(number)
        records += len(next(iter(batch.values())))
        number += 1
    return records, time.thread_time() - started


def _spent(profile: pstats.Stats, busy: float, overhead: float) -> dict[str, float]:
    """Seconds by work, of a profile that took `busy` of them, `overhead` of these itself, at every
    call the same. What is none of this package counts for its callers, by how long each of them
    waited for it.
    """
    stats = profile.stats  # type: ignore[attr-defined]  # typeshed has it not
    scale = busy / sum(own for _, _, own, _, _ in stats.values())  # to time on a processor
    a_call = max(0.0, overhead) / sum(calls for _, calls, _, _, _ in stats.values())
    left = {
        function: max(0.0, own * scale - calls * a_call)
        for function, (_, calls, own, _, _) in stats.items()
    }
    spent: defaultdict[str, float] = defaultdict(float)
    for _ in range(100):  # as deep as calls within other packages go, and some go round
        passed: defaultdict[Any, float] = defaultdict(float)
        for function, seconds in left.items():
            if (work := _work(function[0])) is not None:
                spent[work] += seconds
                continue
            waited = {caller: of[3] for caller, of in stats[function][4].items()}
            total = sum(waited.values())
            for caller, part in waited.items():
                passed[caller] += seconds * part / (total or 1.0)
        left = dict(passed)
    return spent


def _work(file: str) -> str | None:
    path = pathlib.Path(file)
    if path == pathlib.Path(__file__) or not path.is_relative_to(_PACKAGE):
        return None
    name = path.relative_to(_PACKAGE)
    places = [name.as_posix(), *(parent.as_posix() for parent in name.parents)]
    return next((_WORK[place] for place in places if place in _WORK), None)


def format_speed(speed: Speed) -> list[tuple[str, str]]:
    """The rows of a table, (label, text) pairs."""
    rate = speed.rate
    rows = [(work, f"{ms:8.3f} ms a record") for work, ms in speed.parts.items()]
    rows += [
        (
            "all, one thread",
            f"{speed.alone:8.3f} ms a record  {1e3 / speed.alone:8.0f} records/s a core",
        ),
        ("taken over", f"{rate.taking:8.3f} ms a record"),
        (
            "all, pipeline",
            f"{rate.busy:8.3f} ms a record  {rate.records_per_second_a_core:8.0f} records/s a core;"
            f" here {rate.records_per_second:.0f} records/s ({rate.batches} batches, after those"
            " that were ready)",
        ),
    ]
    return rows
