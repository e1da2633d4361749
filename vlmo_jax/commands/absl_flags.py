"""absl's flags as a command line has them: help that was asked for is no failure, and what cannot
be is one line.
"""

import sys

from absl import flags


def parse_or_help(argv: list[str]) -> list[str]:
    """Parses the flags; prints help and ends with status 0 where it is asked for.

    Args:
        argv: the command line.

    Returns:
        What is left of it without flags.

    Raises:
        flags.Error: there is no such flag, or it cannot have this value.
    """
    try:
        return flags.FLAGS(argv)
    except SystemExit as ended:  # after help absl ends with 1; whatever a recipe ends with stays
        sys.exit(0 if ended.code == 1 else ended.code)


def parse_in_one_line(argv: list[str]) -> list[str]:
    """As `parse_or_help`; a flag or value that cannot be ends the program with one line."""
    try:
        return parse_or_help(argv)
    except flags.Error as error:
        sys.exit(f"error: {' '.join(str(error).split())}; --help lists the flags")
