"""What a run says about itself: weighted means, time shares, the progress bar and the metric files.

Nothing here touches jax; values are Python or numpy numbers, or arrays of one element.
"""

import contextlib
import json
import math
import os
import pathlib
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np
import tensorboardX
import tqdm

from vlmo_jax.commands.endings import UserError


class BrokenMetricsError(UserError, ValueError):
    """A file of metrics with a line that is no metrics."""


# Characters that its names may not have; it would say so at every value.
_TENSORBOARD_REFUSES = re.compile(r"[^-/\w.]")


class WeightedMeans:
    """Means of named quantities that come as (sum, weight) pairs, such as a loss and its number of
    terms.
    """

    def __init__(self) -> None:
        self._totals: dict[str, np.ndarray] = {}

    def add(self, pairs: Mapping[str, tuple[float, float]]) -> None:
        """Adds one step's name -> (sum, weight)."""
        for name, pair in pairs.items():
            # float64, so that thousands of float32 steps add up without drift.
            self._totals[name] = self._totals.get(name, 0.0) + np.array(pair, np.float64)

    def take(self) -> dict[str, float]:
        """Returns name -> sum of sums / sum of weights (NaN where all weights are 0) and starts
        anew.
        """
        means = {
            name: float(total / weight) if weight else math.nan
            for name, (total, weight) in self._totals.items()
        }
        self._totals = {}
        return means


class Stopwatch:
    """Measures which share of the time goes where.

    with stopwatch("data"):
        batch = next(batches)
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Counts the time of a `with` block for `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def lap(self) -> tuple[float, dict[str, float]]:
        """Returns the seconds since the last lap and the share (0 to 1) of each name in them, and
        starts anew.
        """
        now = time.perf_counter()
        elapsed = max(now - self._start, 1e-9)
        shares = {name: seconds / elapsed for name, seconds in self._seconds.items()}
        self._start, self._seconds = now, {}
        return elapsed, shares


def announce(text: str) -> None:
    """Prints to standard output without tearing a progress bar."""
    tqdm.tqdm.write(text)
    sys.stdout.flush()


def progress(
    items: Iterable, *, total: int | None, description: str, unit: str, enabled: bool = True
) -> Iterable:
    """Passes items through, showing a bar with the time left once they have taken some seconds.

    Args:
        items: what to go through.
        total: how many there are; None: not known.
        description: what is being done.
        unit: what one item is.
        enabled: False shows nothing.

    Returns:
        An iterable of the same items.
    """
    return tqdm.tqdm(
        items,
        total=total,
        desc=description,
        unit=unit,
        leave=False,
        delay=3,
        # A log file gets a line every ten seconds instead of ten a second.
        mininterval=0.2 if sys.stderr.isatty() else 10.0,
        disable=not enabled,
        dynamic_ncols=True,
    )


class ProgressBar:
    """The bar of a training run: step, time left, samples a second, share of data waiting, each
    loss.

    Only a terminal has it: in a log, the lines of the metrics say the same.

    Args:
        total_steps: steps of the whole run.
        start_step: steps already done by an earlier start.
        enabled: False shows nothing.
    """

    def __init__(self, total_steps: int, *, start_step: int = 0, enabled: bool = True) -> None:
        self._bar = tqdm.tqdm(
            total=total_steps,
            initial=start_step,
            unit="step",
            mininterval=0.2,
            smoothing=0.1,
            dynamic_ncols=True,
            disable=not (enabled and sys.stderr.isatty()),
            bar_format=(
                "step {n_fmt}/{total_fmt} {percentage:3.0f}%|{bar:16}|"
                " {elapsed}<{remaining}{postfix}"
            ),
        )

    def update(
        self,
        step: int,
        *,
        samples_per_second: float | None = None,
        data_wait: float | None = None,
        losses: Mapping[str, float] | None = None,
    ) -> None:
        """Moves the bar to `step` steps done; what is given replaces the text behind it.

        Args:
            step: steps done.
            samples_per_second: pairs, images or texts a second.
            data_wait: share of the time spent waiting for data, 0 to 1.
            losses: name -> value.
        """
        texts = []
        if samples_per_second is not None:
            texts.append(f"{samples_per_second:.0f} samples/s")
        if data_wait is not None:
            texts.append(f"data wait {data_wait:.0%}")
        texts += [
            f"{name.rsplit('/', 1)[-1].removesuffix('_loss')} {value:.3f}"
            for name, value in (losses or {}).items()
        ]
        if texts:
            self._bar.set_postfix_str(", ".join(texts), refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Draws the bar a last time and leaves it on the screen."""
        self._bar.refresh()
        self._bar.close()


class MetricWriter:
    """Writes metrics to the console, `metrics.jsonl` and TensorBoard in a folder.

    Args:
        workdir: folder of the run, made if missing.
        start_step: steps done before this start. What a killed run wrote about later steps is
            dropped; at 0 all is. None keeps everything, for an evaluation beside a finished run.
        total_steps: steps of the whole run, for the console.
        enabled: False (all processes but the first) writes nothing.

    Raises:
        ValueError: `metrics.jsonl` has a line that is no metrics object; only the last may be cut
            short.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        start_step: int | None,
        total_steps: int,
        enabled: bool = True,
    ) -> None:
        self._enabled = enabled
        self._total_steps = total_steps
        if not enabled:
            return
        folder = pathlib.Path(workdir)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        _drop_later_steps(path, start_step)
        # Unbuffered: one line is one write, whole or, after a kill, the last.
        self._lines = open(path, "ab", buffering=0)  # noqa: SIM115 - `close` closes it
        purge_step = start_step + 1 if start_step else start_step
        self._tensorboard = tensorboardX.SummaryWriter(
            str(folder / "tensorboard"), purge_step=purge_step, flush_secs=10
        )

    def write(
        self, step: int, metrics: Mapping[str, float], *, seconds_left: float | None = None
    ) -> None:
        """Writes one line; NaN and infinity become null in the file.

        Args:
            step: optimizer updates done.
            metrics: name such as `train/itc_loss` -> number.
            seconds_left: until the end of the run, for the console; None: not known.

        Raises:
            ValueError: a value is not one number.
        """
        if not self._enabled:
            return
        values = {name: _number(name, value) for name, value in metrics.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._lines.write(
            (json.dumps({"step": int(step), **finite}, allow_nan=False) + "\n").encode()
        )
        for name, value in finite.items():
            if value is not None:
                self._tensorboard.add_scalar(_TENSORBOARD_REFUSES.sub("_", name), value, int(step))
        left = ""
        if seconds_left is not None:
            left = f" ({tqdm.tqdm.format_interval(seconds_left)} left)"
        for line in _console_lines(values):
            announce(f"step {int(step)}/{self._total_steps}{left}  {line}")

    def close(self) -> None:
        """Closes the files; more closes do no harm."""
        if self._enabled:
            self._lines.close()
            self._tensorboard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_metrics(path: str | os.PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Reads a `metrics.jsonl`, also one that is being written.

    Args:
        path: the file.

    Returns:
        name -> (steps [n] int64, values [n] float64), by step; of two values of one step the later
        line's, NaN for null.

    Raises:
        ValueError: a line is no metrics object.
    """
    series: dict[str, dict[int, float]] = {}
    for record, _ in _parse(pathlib.Path(path)):
        for name, value in record.items():
            if name != "step":
                series.setdefault(name, {})[record["step"]] = math.nan if value is None else value
    return {
        name: (
            np.array(sorted(points), np.int64),
            np.array([points[step] for step in sorted(points)], np.float64),
        )
        for name, points in series.items()
    }


def _parse(path: pathlib.Path) -> list[tuple[dict, bytes]]:
    """Returns (object, line) of each line; a last line cut short by a kill is left out."""
    parsed = []
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if not isinstance(record["step"], int):
                raise TypeError("step is no integer")
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise BrokenMetricsError(
                f"{path}, line {number}: {line[:80]!r} is not a JSON object with an integer `step`;"
                " repair or delete that line, or move the file away"
            ) from error
        parsed.append((record, line.rstrip(b"\n") + b"\n"))
    return parsed


def _drop_later_steps(path: pathlib.Path, start_step: int | None) -> None:
    if not path.exists():
        return
    # At 0 nothing was kept of the earlier start, so that what it measured before its first step
    # goes too.
    parsed = [] if start_step == 0 else _parse(path)
    kept = b"".join(
        line for record, line in parsed if start_step is None or record["step"] <= start_step
    )
    if kept != path.read_bytes():
        partial = path.with_suffix(".jsonl.partial")
        partial.write_bytes(kept)
        os.replace(partial, path)


def _number(name: str, value: Any) -> int | float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind in "cmMOSU":
        raise ValueError(f"metric {name!r} is {value!r}; a metric is one number")
    if array.dtype.kind in "biu":
        return int(array.item())
    # By way of text: 0.1 and not 0.10000000149011612, which reads back as the same float32.
    return float(str(array.astype(np.promote_types(array.dtype, np.float32)).reshape(())[()]))


def _console_lines(values: Mapping[str, float]) -> list[str]:
    """One text a folder of metric names: `train: itc_loss 3.21, ...`."""
    groups: dict[str, list[str]] = {}
    for name, value in values.items():
        folder, _, short = name.rpartition("/")
        groups.setdefault(folder, []).append(f"{short} {value:.4g}")
    return [
        (f"{folder}: " if folder else "") + ", ".join(texts) for folder, texts in groups.items()
    ]
