"""Tables in plain text."""

from collections.abc import Sequence


def printable(text: str) -> str:
    """Returns a text that can be printed and written as UTF-8: names of files may be none."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Returns lines in which the columns stand under each other, the first flush left and the
    others flush right.

    Args:
        header: names of the columns.
        rows: cells; whole numbers get commas between thousands.
    """
    cells = [list(header)] + [
        [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )
