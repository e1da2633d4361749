"""Which scripts pictures can show: those that some font of this machine has."""

import logging
import time
from collections.abc import Iterable

from vlmo_jax.doctor.findings import Finding

SAMPLES = {
    "Latin": "a",
    "Cyrillic": "ж",
    "Greek": "λ",
    "Arabic": "ع",
    "Hebrew": "ש",
    "Devanagari": "अ",
    "Bengali": "ব",
    "Tamil": "த",
    "Thai": "ก",
    "Chinese": "漢",
    "Japanese": "あ",
    "Korean": "한",
    "emoji": "😀",
}
SECONDS = 10.0  # at most for looking into fonts; a machine may have thousands


def check_fonts() -> Finding:
    """The scripts that matplotlib finds letters of."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib import font_manager

    paths = dict.fromkeys(font.fname for font in font_manager.fontManager.ttflist)
    missing = missing_scripts(paths)
    have = [name for name in SAMPLES if name not in missing]
    if not missing:
        return Finding("fonts", f"{len(paths)} files, {len(have)} scripts and emoji")
    return Finding(
        "fonts",
        f"{len(paths)} files: {', '.join(have)}",
        f"captions in other scripts come out as boxes in pictures ({', '.join(missing)}): apt"
        " install fonts-noto-core fonts-noto-cjk fonts-symbola",
    )


def missing_scripts(paths: Iterable[str], seconds: float = SECONDS) -> list[str]:
    """The names of SAMPLES of which no font has a letter.

    Args:
        paths: of fonts.
        seconds: to look at most.
    """
    from matplotlib.ft2font import FT2Font

    missing, end = dict(SAMPLES), time.monotonic() + seconds
    for path in paths:
        if not missing or time.monotonic() > end:
            break
        try:
            letters = FT2Font(path).get_charmap()
        except (RuntimeError, OSError, ValueError):  # a font that nobody can use
            continue
        missing = {name: letter for name, letter in missing.items() if ord(letter) not in letters}
    return list(missing)
