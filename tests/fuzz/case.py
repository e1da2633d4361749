"""One odd input, and what may come of it."""

import contextlib
import dataclasses
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from vlmo_jax.commands.endings import UserError

SECONDS = 60  # a case that takes longer hangs


class WrongError(Exception):
    """The program went on with another result than the input says, or lost some of it silently."""


@dataclasses.dataclass(frozen=True)
class Case:
    """An odd input.

    Attributes:
        name: says what is odd about it.
        run: function of an empty folder. It returns where the program does what it should, raises
            UserError where the program refuses, and WrongError where it goes on with something
            else.
    """

    name: str
    run: Callable[[Path], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        kind: "right", "refused", or what must not be: "wrong", "traceback" or "hang".
        text: the message of what was raised.
    """

    kind: str
    text: str = ""

    @property
    def good(self) -> bool:
        """Whether the program may do so."""
        return self.kind in ("right", "refused")


def try_case(case: Case) -> Outcome:
    """Runs a case in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with time_limit(SECONDS):
                case.run(Path(folder))
        except UserError as error:
            text = str(error)
            return Outcome("refused" if text.strip() and "\n" not in text else "wrong", text)
        except WrongError as error:
            return Outcome("wrong", str(error))
        except TimeoutError:
            return Outcome("hang", f"longer than {SECONDS} s")
        except BaseException as error:  # SystemExit and what C extensions raise too
            return Outcome("traceback", f"{type(error).__name__}: {error}")
    return Outcome("right")


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises TimeoutError inside after so many seconds."""

    def stop(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
