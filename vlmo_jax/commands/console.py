"""What a command prints on its way."""

import logging
import sys

# The least that is heard of libraries. Fonts are looked for once, in the first run of all, and
# nobody needs to know.
LIBRARIES = {
    "absl": logging.WARNING,
    "jax": logging.WARNING,
    "matplotlib": logging.WARNING,
    "matplotlib.font_manager": logging.ERROR,
}


def log_to_console() -> None:
    """Sends what the project logs to standard error, and of libraries what needs attention."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for library, level in LIBRARIES.items():
        logging.getLogger(library).setLevel(level)
