"""What a field of a config may be, as data: each owner of fields has a table name -> kind of value.

    FIELDS = {"batch_size": Whole(above=0), "betas": Several(Number(low=0, below=1), 2, "two")}

`check_fields` holds a part of a config to such a table: nothing missing, of the right type, finite,
in range. What depends on more than one field is left to the owner's functions.
"""

import dataclasses
import math
import numbers
import re
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from vlmo_jax.commands.config_errors import ConfigError, require

INT32 = 2**31 - 1  # steps and sizes are int32 on the devices
LONGEST_TEXT = 4096  # what a file system takes as a path


class Kind(Protocol):
    """What a value may be."""

    def check(self, key: str, value: Any) -> None:
        """Raises ConfigError, naming config.<key>, unless the value may stand there."""


@dataclasses.dataclass(frozen=True)
class _Bounds:
    """Args: above, low, below, high: bounds, the first and the third not included. zero: what 0
    means, for messages.
    """

    above: float | None = None
    low: float | None = None
    below: float | None = None
    high: float | None = None
    zero: str = ""

    def _check_range(self, key: str, value: Any, shown: Any) -> None:
        held = (
            (self.above is None or value > self.above)
            and (self.low is None or value >= self.low)
            and (self.below is None or value < self.below)
            and (self.high is None or value <= self.high)
        )
        if not held:
            raise ConfigError(f"config.{key}={_cut(shown)} must be {self._range()}")

    def _range(self) -> str:
        meaning = f" ({self.zero})" if self.zero else ""
        if self.low is not None and self.below is not None:
            return f"in [{self.low:g}, {self.below:g}){meaning}"
        least = "" if self.above is None else f"more than {self.above:g}"
        if self.low is not None:
            least = f"{self.low:g}{meaning} or more"
        most = "" if self.high is None else f"at most {self.high:,}"
        return " and ".join(filter(None, (least, most)))


@dataclasses.dataclass(frozen=True)
class Whole(_Bounds):
    """A whole number, of int32 unless `high` says otherwise."""

    def check(self, key: str, value: Any) -> None:
        """See `Kind`."""
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        require(whole, f"config.{key}={_cut(value)} must be a whole number")
        self._check_range(key, value, value)
        require(
            value <= (self.high or INT32), f"config.{key}={_cut(value)} must be at most {INT32:,}"
        )


@dataclasses.dataclass(frozen=True)
class Number(_Bounds):
    """A finite number, held to its bounds as the float32 that it becomes on the devices."""

    def check(self, key: str, value: Any) -> None:
        """See `Kind`."""
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        require(real, f"config.{key}={_cut(value)} must be a number")
        single = _as_float32(value)
        require(
            math.isfinite(single), f"config.{key}={_cut(value)} must be a finite number of float32"
        )
        self._check_range(key, single, value)


def _as_float32(value: Any) -> float:
    """The float32 that a number becomes, 0 where it is too small to be one."""
    try:
        with np.errstate(all="ignore"):
            single = float(np.float32(value))
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf
    return 0.0 if abs(single) < np.finfo(np.float32).tiny else single


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or False."""

    def check(self, key: str, value: Any) -> None:
        """See `Kind`."""
        require(isinstance(value, bool), f"config.{key}={_cut(value)} must be True or False")


@dataclasses.dataclass(frozen=True)
class Text:
    """A name, or a path.

    Args:
        optional: may be None or empty: not set.
        longest: letters at most.
    """

    optional: bool = False
    longest: int = LONGEST_TEXT

    def check(self, key: str, value: Any) -> None:
        """See `Kind`."""
        if self.optional and (value is None or value == ""):
            return
        require(isinstance(value, str), f"config.{key}={_cut(value)} must be a text")
        require(bool(value.strip()), f"config.{key}={_cut(value)} is empty; give a name")
        require(
            len(value.encode(errors="replace")) <= self.longest,
            f"config.{key}={_cut(value)} has {len(value)} letters; {self.longest} bytes are the"
            " most that a name can have",
        )
        require(
            value.isprintable(),
            f"config.{key}={_cut(value)} has letters that cannot be printed; leave them out",
        )


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some texts."""

    choices: Sequence[str]

    def check(self, key: str, value: Any) -> None:
        """See `Kind`."""
        require(
            isinstance(value, str) and value in self.choices,
            f"config.{key}={_cut(value)} is not allowed; use one of {', '.join(self.choices)}",
        )


@dataclasses.dataclass(frozen=True)
class Regex:
    """A regular expression for whole paths of parameters."""

    def check(self, key: str, value: Any) -> None:
        """See `Kind`."""
        require(
            isinstance(value, str),
            f"config.{key}={_cut(value)} must be a regular expression, a text in quotes",
        )
        try:
            pattern = re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            raise ConfigError(
                f"config.{key}={_cut(value)} is not a regular expression: {error}"
            ) from error
        require(
            _is_quick(pattern),
            f"config.{key}={_cut(value)} takes for ever to match: it repeats what it repeats"
            " already, as in (.*)*; write it with one repetition",
        )


# Like the name of a parameter, but for its end, which makes a match try everything.
_PROBE = "transformer/lower/experts/stacked/up/kernel/text_embedding/position_0123456789!"
_SECONDS = 0.5


def _is_quick(pattern: re.Pattern) -> bool:
    """Whether a name is matched in no time; where a timer cannot tell, it is taken for so."""
    if threading.current_thread() is not threading.main_thread():
        return True

    def stop(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS)
    try:
        pattern.fullmatch(_PROBE)
    except TimeoutError:
        return False
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return True


@dataclasses.dataclass(frozen=True)
class Rule:
    """A pair (regular expression, value)."""

    value: Kind

    def check(self, key: str, value: Any) -> None:
        """See `Kind`."""
        require(
            isinstance(value, (tuple, list)) and len(value) == 2,
            f"config.{key}={_cut(value)} must be a pair (regular expression, value), such as"
            " (('.*bias', 2.0),) for a list of one",
        )
        Regex().check(f"{key}[0]", value[0])
        self.value.check(f"{key}[1]", value[1])


@dataclasses.dataclass(frozen=True)
class Several:
    """A tuple.

    Args:
        item: what each of its values may be.
        length: how many they are; None: any number.
        what: the tuple in words, for messages.
        optional: may be () too: none.
        distinct: no value comes twice.
    """

    item: Kind
    length: int | None = None
    what: str = "values in brackets with a comma behind each"
    optional: bool = False
    distinct: bool = False

    def check(self, key: str, value: Any) -> None:
        """See `Kind`."""
        none = ", or () for none" if self.optional else ""
        right = isinstance(value, (tuple, list)) and (
            self.length is None or len(value) == self.length or self.optional and not value
        )
        shown = tuple(value) if isinstance(value, list) else value
        require(right, f"config.{key}={_cut(shown)} must be {self.what}{none}")
        for number, item in enumerate(value):
            try:
                self.item.check(f"{key}[{number}]", item)
            except ConfigError as error:
                if self.length is None:
                    raise
                raise ConfigError(
                    f"config.{key}={_cut(shown)} must be {self.what}{none}: {error}"
                ) from error
        if self.distinct:
            twice = [item for number, item in enumerate(value) if item in value[:number]]
            require(
                not twice, f"config.{key}={_cut(shown)} names {', '.join(map(repr, twice))} twice"
            )


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a config with fields of its own, which its owner checks."""

    def check(self, key: str, value: Any) -> None:
        """See `Kind`."""
        require(
            hasattr(value, "items"),
            f"config.{key}={_cut(value)} must be a part with fields of its own, a ConfigDict",
        )


@dataclasses.dataclass(frozen=True)
class Anything:
    """A value that its owner checks."""

    def check(self, key: str, value: Any) -> None:
        """See `Kind`."""


@dataclasses.dataclass(frozen=True)
class Extra:
    """A value that may be left out."""

    kind: Kind

    def check(self, key: str, value: Any) -> None:
        """See `Kind`."""
        self.kind.check(key, value)


def check_fields(
    part: str, values: Mapping[str, Any], fields: Mapping[str, Kind], *, closed: bool = False
) -> None:
    """Holds a part of a config to a table.

    Args:
        part: its name, such as "optimizer"; "" for the config itself.
        values: the part.
        fields: name -> kind.
        closed: whether the part may have no others, since all of them are arguments of something.

    Raises:
        ConfigError: at the first field that is missing, of another type, not finite or out of
            range.
    """
    prefix = f"{part}." if part else ""
    for name, kind in fields.items():
        if name in values:
            kind.check(f"{prefix}{name}", values[name])
        elif not isinstance(kind, Extra):
            raise ConfigError(f"config.{prefix}{name} is missing; the recipe must set it")
    if closed and (unknown := [name for name in values if name not in fields]):
        raise ConfigError(
            f"config.{prefix}{unknown[0]} is not known; config.{part} has {', '.join(fields)}"
        )


def _cut(value: Any) -> str:
    """A value as it is shown in a message, in one line."""
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 80 else f"{shown[:60]}...{shown[-10:]}"
