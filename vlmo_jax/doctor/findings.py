"""What was looked at, what was found, and what to do: a line each."""

import dataclasses
import textwrap

WHAT, VALUE = 20, 56  # letters of the first two columns


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: was looked at, a few words.
        value: what was found.
        to_do: what to do about it, "" where all is well.
        wrong: whether something will fail as it is; advice alone is not wrong.
    """

    what: str
    value: str
    to_do: str = ""
    wrong: bool = False

    def line(self) -> str:
        """The finding as a line of the report, and as many below it as what to do takes."""
        head = f"{self.what:<{WHAT}}  {self.value:<{VALUE}}"
        if not self.to_do:
            return f"{head}  ok"
        sign = "WRONG" if self.wrong else "note"
        advice = textwrap.wrap(f"{sign}: {self.to_do}", 78 - 2, break_long_words=False)
        return "\n".join([head.rstrip(), *(f"{'':<{WHAT}}  {line}" for line in advice)])


def wrong(what: str, value: str, to_do: str) -> Finding:
    """A Finding that will make something fail."""
    return Finding(what, value, to_do, wrong=True)


def size(number: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:,.0f} {unit}"
        number /= 1024
    return f"{number:,.1f} GiB"
