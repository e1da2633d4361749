"""Signals to a run that has something to lose: they end it after the step under way, with a
checkpoint.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator

from vlmo_jax.commands.signals import end_at_once, watching

# So many times Ctrl-C end the run at once: the first two may be one that was pressed twice.
_IMPATIENT = 3


class StopRequests:
    """Whether a signal has asked the run to stop.

    Args:
        say: tells people.

    Attributes:
        asked: whether.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.asked = False
        self._say, self._interrupts = say, 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, signals are requests; the third Ctrl-C ends the program at once."""
        with watching(self._receive):
            yield

    def _receive(self, number: int) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts >= _IMPATIENT:
            end_at_once(number, "what was trained after the last whole checkpoint is lost")
        name = signal.Signals(number).name
        if not self.asked:
            self.asked = True
            self._say(f"{name}: saving after this step, then stopping.")
        elif number == signal.SIGINT:
            self._say(
                f"{name}: the checkpoint is still to be finished; once more ends the run at once,"
                " and what was trained after the last whole checkpoint is lost."
            )
