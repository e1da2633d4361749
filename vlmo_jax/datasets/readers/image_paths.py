"""Finds the file that a captions file means: exactly, or the only one that fits best."""

import collections
import difflib
import os
import pathlib
import posixpath
import re
import unicodedata
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from PIL import Image

IMAGE_SUFFIXES = frozenset(Image.registered_extensions()) | {".heic", ".heif", ".avif", ".svg"}


class Match(NamedTuple):
    """What a name leads to.

    Attributes:
        path: of the file in the folder, None where none or several fit.
        how: "" for its path, else in which way it fits: "letters" (other case or spelling of
            letters, or no ending), "folder" (inside another folder), "name" (the file name alone).
        problem: why there is none.
    """

    path: str | None
    how: str = ""
    problem: str = ""


def has_image_suffix(name: str) -> bool:
    """Whether a name ends as those of images do."""
    return os.path.splitext(name.strip())[1].lower() in IMAGE_SUFFIXES


_HOW = {
    "letters": "but for case, accents written another way, or their ending",
    "folder": "inside another folder than the file says",
    "name": "by their name alone",
}


class ImageFinder:
    """Finds files by what a captions file calls them.

    Args:
        folder: of the images.
        paths: of its files, relative to it, "/" between their parts.
    """

    def __init__(self, folder: pathlib.Path, paths: Iterable[str]) -> None:
        self._paths = dict.fromkeys(paths)
        self._roots = tuple(
            dict.fromkeys(
                posixpath.normpath(root) + "/"
                for root in (os.path.abspath(folder), os.path.realpath(folder))
            )
        )
        self._own = f"{folder.resolve().name}/"
        self._indices: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> Match:
        """The file that a name means.

        Args:
            name: a path, of any system, or a file name with or without its ending.
        """
        if name in self._paths:
            return Match(name)
        path = self._inside(name)
        spellings = dict.fromkeys((path, re.sub(r"#\d+$", "", path), urllib.parse.unquote(path)))
        for spelling in spellings:
            if spelling in self._paths:
                return Match(spelling)
        for index, form in _FORMS.items():
            for spelling in spellings:
                found = self._index(index, form).get(form(spelling), [])
                if found:
                    return _only(found, "letters")
        tails = [self._by_tail(spelling) for spelling in spellings]
        return next((match for match in tails if match.path or match.problem), self._none(path))

    def example(self) -> str | None:
        """One of the files, an image where there is one."""
        images = (path for path in self._paths if has_image_suffix(path))
        return next(images, next(iter(self._paths), None))

    def _inside(self, name: str) -> str:
        """A name as a path from the folder, with "/" between its parts."""
        path = name.strip().replace("\\", "/").removeprefix("file://")
        absolute = path.startswith("/")
        path = posixpath.normpath(path) if path else path
        for root in self._roots if absolute else ():
            if path.startswith(root):
                return path.removeprefix(root)
        path = re.sub(r"^[A-Za-z]:", "", path).lstrip("/")
        inner = path.removeprefix(self._own)
        return inner if path not in self._paths and inner in self._paths else path

    def _index(self, name: str, form: Callable[[str], str]) -> dict[str, list[str]]:
        """form(path) -> paths."""
        if name not in self._indices:
            index = collections.defaultdict(list)
            for path in self._paths:
                spelled = posixpath.splitext(path)[0] if name.endswith("stem") else path
                if not name.endswith("stem") or has_image_suffix(path):
                    index[form(spelled)].append(path)
            self._indices[name] = dict(index)
        return self._indices[name]

    def _by_tail(self, path: str) -> Match:
        """The file of that name with the most folders before it in common."""
        for stem in ("", " stem"):
            name = _fold(posixpath.basename(path))
            found = self._index(f"name{stem}", lambda p: _fold(posixpath.basename(p))).get(name, [])
            if not found:
                continue
            common = {one: _common_tail(_fold(path), _fold(one), bool(stem)) for one in found}
            best = [one for one in found if common[one] == max(common.values())]
            exact = [one for one in best if posixpath.basename(one) == posixpath.basename(path)]
            best = exact if len(exact) == 1 and len(best) > 1 else best
            whole = len(best) == 1 and common[best[0]] == best[0].count("/") + 1
            inside = whole and "/" in best[0]
            return _only(best, "folder" if inside else "name")
        return Match(None)

    def _none(self, path: str) -> Match:
        problem = "no such file"
        names = [posixpath.basename(one) for one in self._index("exact", str)][:20000]
        near = difflib.get_close_matches(posixpath.basename(path)[:200], names, 1, 0.75)
        if near:
            problem += (
                f"; the nearest is {near[0]!r}{_difference(posixpath.basename(path), near[0])}"
            )
        return Match(None, problem=problem)


def given_folder(name: str, match: Match) -> str:
    """The folder that a name gives, "" where it is the one that its file is in."""
    if match.how not in ("folder", "name"):
        return ""
    return posixpath.dirname(posixpath.normpath(name.replace("\\", "/")))


def without_rivals(matches: Mapping[str, Match]) -> dict[str, Match]:
    """Takes their file from names that only resemble it, where a name with another folder leads
    there too.

    Args:
        matches: by the names.
    """
    folders: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for name, match in matches.items():
        if match.path is not None:
            folders[match.path].setdefault(given_folder(name, match), name)
    found = dict(matches)
    for name, match in matches.items():
        folder = given_folder(name, match)
        rivals = [other for given, other in folders[match.path or ""].items() if given != folder]
        if match.path is not None and folder and rivals:
            problem = f"no such file; {match.path} is what {rivals[0]!r} means"
            found[name] = Match(None, problem=problem)
    return found


def match_notes(matches: Mapping[str, Match]) -> list[str]:
    """Returns lines for a report: how many names, by what they lead to, are no paths."""
    notes = []
    for how, words in _HOW.items():
        names = [name for name, match in matches.items() if match.how == how and match.path]
        if names:
            notes.append(
                f"{len(names):,} of {len(matches):,} paths were matched {words}; the first is"
                f" {names[0]!r} -> {matches[names[0]].path!r}"
            )
    return notes


def _only(found: list[str], how: str) -> Match:
    if len(found) == 1:
        return Match(found[0], how)
    others = f" and {len(found) - 2} more" if len(found) > 2 else ""
    return Match(None, problem=f"several files answer to it: {', '.join(found[:2])}{others}")


def _compose(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _fold(path: str) -> str:
    """Without what one does not see: case, width, ways to write accents, invisible letters."""
    shown = (c for c in unicodedata.normalize("NFKC", path) if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFKC", "".join(shown).casefold())


# Ways to compare whole paths, the strictest first.
_FORMS: dict[str, Callable[[str], str]] = {
    "composed": _compose,
    "folded": _fold,
    "exact stem": str,
    "folded stem": _fold,
}


def _common_tail(path: str, other: str, stem: bool) -> int:
    """How many parts at their ends two paths share."""
    ours, theirs = path.split("/"), (posixpath.splitext(other)[0] if stem else other).split("/")
    count = 0
    for a, b in zip(reversed(ours), reversed(theirs), strict=False):
        if a != b:
            break
        count += 1
    return count


def _difference(name: str, near: str) -> str:
    """Where two names differ by letters that look the same, in words."""
    for a, b in zip(name, near, strict=False):
        if a != b and (ord(a) > 127 or ord(b) > 127):
            named = [f"U+{ord(c):04X} {unicodedata.name(c, '')}".strip() for c in (b, a)]
            return f", which has {named[0]} for {named[1]}"
    return ""
