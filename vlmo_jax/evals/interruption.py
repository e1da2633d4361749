"""Evaluations that can be stopped between two batches."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator


class InterruptedEvaluation(BaseException):
    """Somebody has asked the evaluation to stop; nothing has failed, so that nobody who names what
    has failed catches it.
    """


_stop: contextvars.ContextVar[Callable[[], bool]] = contextvars.ContextVar(
    "stop", default=lambda: False
)


@contextlib.contextmanager
def interruptible(stop: Callable[[], bool]) -> Iterator[None]:
    """Inside, evaluations ask after each batch whether to stop.

    Args:
        stop: function that says so, the same on every process: each asks as often.
    """
    token = _stop.set(stop)
    try:
        yield
    finally:
        _stop.reset(token)


def stop_if_asked() -> None:
    """To be called between batches.

    Raises:
        InterruptedEvaluation: the evaluation is to stop.
    """
    if _stop.get()():
        raise InterruptedEvaluation
