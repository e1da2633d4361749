"""What was left out of a data set, and why, as a file and in a few lines."""

import itertools
import re
from collections.abc import Mapping

from vlmo_jax.datasets.tables import printable

NAME = "left_out.tsv"
_SHOWN = 10
_BREAKS = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")  # end a field or a line


def left_out_table(left_out: Mapping[str, str]) -> str:
    """Returns the contents of the file: a name, a tab and the reason a line.

    Args:
        left_out: {name: why}.
    """
    return "".join(f"{_field(name)}\t{_reason(why)}\n" for name, why in left_out.items())


def summarize_left_out(left_out: Mapping[str, str]) -> str:
    """Returns lines that name the first ten, with the reason.

    Args:
        left_out: {name: why}.
    """
    first = itertools.islice(left_out.items(), _SHOWN)
    lines = [f"  {_field(name)}: {_reason(why)}" for name, why in first]
    if len(left_out) > _SHOWN:
        lines.append(f"  and {len(left_out) - _SHOWN:,} more")
    return "\n".join(lines)


def _reason(why: str) -> str:
    return _field(" ".join(why.split()))


def _field(text: str) -> str:
    """A text in one line, without tabs."""
    return _BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode(), printable(text))
