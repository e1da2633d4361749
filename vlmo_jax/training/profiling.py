"""A trace of chosen steps, which TensorBoard (XProf) and Perfetto open."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax


class Profile:
    """Writes what host and devices do in steps `first` .. `last` of a run into a folder.

    Args:
        steps: (first, last), or () for none. Of those that a start does not make nothing is
            written.
        folder: to write to.
        wait: returns when the devices have finished what was asked of them.
        say: tells people a line.
    """

    def __init__(
        self,
        steps: Sequence[int],
        folder: Path,
        *,
        wait: Callable[[], Any],
        say: Callable[[str], None],
    ) -> None:
        self.first, self.last = tuple(steps) or (0, 0)
        self.folder, self.wait, self.say = folder, wait, say
        self.traced: list[int] = []

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around a step, its batch included."""
        if not self.first <= number <= self.last:
            yield
            return
        if not self.traced:
            self.wait()
            jax.profiler.start_trace(self.folder)
        self.traced.append(number)
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield
        if number == self.last:
            self.close()

    def close(self) -> None:
        """Ends a trace and says where it lies; does nothing where there is none."""
        if not self.traced:
            return
        self.wait()
        jax.profiler.stop_trace()
        steps, self.traced = (self.traced[0], self.traced[-1]), []
        newest = max(self.folder.rglob("*.trace.json.gz"), key=lambda file: file.stat().st_mtime)
        self.say(
            f"The trace of steps {steps[0]} to {steps[1]} lies in {self.folder}: tensorboard"
            f" --logdir {self.folder} (with pip install xprof), or open {newest} at"
            " https://ui.perfetto.dev"
        )
