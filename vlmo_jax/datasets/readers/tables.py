"""Rows of tables in text: separators told by the header, quotation marks that lose no rows.

Fields may stand in quotation marks, as in RFC 4180, and then hold separators, doubled marks and
line breaks. People's files also have captions that just begin with a mark, closed or not. A mark
that is not closed before a separator or the end of the line is therefore taken as it stands, unless
it is closed in a later line and none of the lines on the way is a row of its own.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence

SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "pipe"}
_MOST_LINES = 1000  # of one caption


@dataclasses.dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        line: number of its first line.
        last_line: number of its last line.
        fields: as they are meant, without the marks around them.
        bare_quotes: whether one begins with a quotation mark that was taken as it stands.
    """

    line: int
    last_line: int
    fields: list[str]
    bare_quotes: bool


def table_rows(
    lines: Sequence[str], separator: str, is_row: Callable[[list[str]], bool], first_line: int = 1
) -> Iterator[TableRow]:
    """Yields the rows of a table, blank lines left out.

    Args:
        lines: with or without line breaks at their ends.
        separator: one character, or "" for the first white space of a line.
        is_row: whether fields look like a row of their own: they have the right number, and one
            names an image.
        first_line: number of the first of `lines`.
    """
    number = 0
    while number < len(lines):
        line = lines[number].rstrip("\r\n")
        if not line.strip():
            number += 1
            continue
        fields, bare, taken = _read_row(lines, number, separator, is_row)
        yield TableRow(first_line + number, first_line + number + taken - 1, fields, bare)
        number += taken


def split_line(line: str, separator: str) -> tuple[list[str], bool]:
    """The fields of one line alone, and whether one begins with a bare quotation mark."""
    if not separator:
        return line.split(None, 1), False
    if '"' not in line:
        return line.split(separator), False
    fields, start, bare = [], 0, False
    while True:
        quoted = _quoted(line, start, separator) if line[start : start + 1] == '"' else None
        if quoted:
            fields.append(quoted[0])
            start = quoted[1]
        else:
            bare |= line[start : start + 1] == '"'
            end = line.find(separator, start)
            end = len(line) if end < 0 else end
            fields.append(line[start:end])
            start = end
        if start >= len(line):
            return fields, bare
        start += 1
        if start == len(line):
            return [*fields, ""], bare


def _read_row(
    lines: Sequence[str], number: int, separator: str, is_row: Callable[[list[str]], bool]
) -> tuple[list[str], bool, int]:
    """Fields, whether one has a bare mark, and how many lines they take."""
    line = lines[number].rstrip("\r\n")
    fields, bare = split_line(line, separator)
    if not bare or not fields:
        return fields, bare, 1
    opened_is_row = is_row(fields)
    text = line
    for more in range(1, min(_MOST_LINES, len(lines) - number)):
        following = lines[number + more].rstrip("\r\n")
        text += "\n" + following
        if '"' in following:
            joined, still_bare = split_line(text, separator)
            closing_is_row = is_row(split_line(following, separator)[0])
            if not still_bare and not (opened_is_row and closing_is_row):
                return joined, False, more + 1
        if is_row(split_line(following, separator)[0]):
            break
    return fields, True, 1


def _quoted(line: str, start: int, separator: str) -> tuple[str, int] | None:
    """What stands in the quotation marks that open at `start`, and where the field ends; None where
    they are not closed before a separator or the end.
    """
    end = rf'"[ ]*(?={re.escape(separator)}|\Z)'
    doubled = re.compile(rf'"([^"]*(?:""[^"]*)*){end}').match(line, start)
    if doubled:
        return doubled[1].replace('""', '"'), doubled.end()
    escaped = re.compile(rf'"([^"\\]*(?:(?:\\.|"")[^"\\]*)*){end}', re.S).match(line, start)
    if escaped:
        return escaped[1].replace('""', '"').replace('\\"', '"'), escaped.end()
    return None
