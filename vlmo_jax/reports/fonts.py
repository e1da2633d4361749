"""Fonts that have the letters of a text."""

import functools
import unicodedata
import warnings

_PLAIN = "DejaVu Sans"  # comes with matplotlib
_NO_LETTERS = ("Last Resort", "LastResort")  # fonts that draw a box for everything

# The Debian package of a font with the letters of a script, by the beginning of their names.
_PACKAGES = {
    ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH"): (
        "fonts-noto-cjk"
    ),
    ("EMOJI", "REGIONAL", "FACE", "GRINNING", "SMILING", "DOG", "CAT"): "fonts-symbola",
}
_told: set[str] = set()


def families_for(text: str) -> list[str]:
    """Returns the font families that together have the letters of a text, the plain one first.

    Letters that no installed font has are warned of, once a script.

    Args:
        text: any.
    """
    plain = _letters_of(_PLAIN)
    lacking = {c for c in text if ord(c) not in plain and not c.isspace() and c.isprintable()}
    families = [_PLAIN]
    if not lacking:
        return families
    for family, letters in _other_families():
        found = {c for c in lacking if ord(c) in letters}
        if found:
            families.append(family)
            lacking -= found
        if not lacking:
            return families
    _warn(lacking)
    return families


def _warn(lacking: set[str]) -> None:
    scripts = {unicodedata.name(c, "UNNAMED").split()[0]: c for c in sorted(lacking)}
    for script, letter in scripts.items():
        if script not in _told:
            _told.add(script)
            named = (name for names, name in _PACKAGES.items() if script in names)
            package = next(named, "fonts-noto-core, or fonts-symbola for signs")
            warnings.warn(
                f"no installed font has the letters of {script} ({letter!a}), pictures show boxes"
                f" for them; install one, on Debian and Ubuntu the package {package}",
                stacklevel=3,
            )


@functools.lru_cache
def _letters_of(family: str) -> frozenset[int]:
    from matplotlib import font_manager

    path = font_manager.findfont(font_manager.FontProperties(family=[family]))
    return _letters_in(path)


@functools.lru_cache
def _letters_in(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # a damaged file, or one of bitmaps
        return frozenset()


@functools.lru_cache
def _other_families() -> list[tuple[str, frozenset[int]]]:
    """Installed families and their letters: upright ones, sans serif first."""
    from matplotlib import font_manager

    entries: dict[str, str] = {}
    for entry in font_manager.fontManager.ttflist:
        if entry.style == "normal" and not entry.name.startswith(_NO_LETTERS):
            entries.setdefault(entry.name, entry.fname)
    names = sorted(entries, key=lambda name: ("Sans" not in name, name))
    return [(name, _letters_in(entries[name])) for name in names if name != _PLAIN]
