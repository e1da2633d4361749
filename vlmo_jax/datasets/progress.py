"""Work on many items in threads, in order, with a progress bar."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

import tqdm

_EVERY = 60.0  # seconds between lines where there is no terminal

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    unit: str = " images",
    num_threads: int | None = None,
) -> Iterator[Result]:
    """Yields function(item) for each item, in order, and shows a progress bar where there is a
    terminal.

    Args:
        function: called from several threads.
        items: any sequence.
        unit: what the bar counts.
        num_threads: None for one a core.
    """
    num_threads = num_threads or os.cpu_count() or 1
    # Some items at a time, so that memory stays bounded when the results are used more slowly than
    # they are made.
    chunk = 16 * num_threads
    with (
        futures.ThreadPoolExecutor(num_threads) as pool,
        tqdm.tqdm(total=len(items), unit=unit, disable=None) as bar,
    ):
        for start in range(0, len(items), chunk):
            for result in pool.map(function, items[start : start + chunk]):
                bar.update()
                yield result


class RecordBar:
    """Context manager that shows how many records, or other things, are done, how fast, and how
    long it takes: a bar on a terminal, elsewhere, as in a log, a line a minute.

    Args:
        total: number of them.
        done: of them, before.
        unit: what is counted.
    """

    def __init__(self, total: int, done: int = 0, unit: str = "records") -> None:
        self._total, self._before, self._done, self._unit = total, done, done, unit
        self._bar = tqdm.tqdm(total=total, initial=done, unit=f" {unit}", disable=None)
        self._begun = self._told = time.monotonic()

    def __enter__(self) -> "RecordBar":
        return self

    def __exit__(self, *error) -> None:
        self._bar.close()

    def update(self, count: int) -> None:
        """Counts records as done."""
        self._done += count
        self._bar.update(count)
        now = time.monotonic()
        if not self._bar.disable or now - self._told < _EVERY:
            return
        self._told = now
        rate = (self._done - self._before) / (now - self._begun)
        minutes = (self._total - self._done) / rate / 60
        print(
            f"{self._done:,} of {self._total:,} {self._unit}, {rate:,.0f} a second,"
            f" {minutes:,.0f} min left",
            file=sys.stderr,
            flush=True,
        )
