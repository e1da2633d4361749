"""Work on many items in threads, in order, with a progress bar."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import TypeVar

import tqdm

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
