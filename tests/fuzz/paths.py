"""Paths in captions files, and names of data sets, splits and folders."""

import unicodedata
from pathlib import Path

import numpy as np

from tests.fuzz.case import Case, WrongError
from vlmo_jax.datasets import sources, splits
from vlmo_jax.datasets.readers.image_paths import ImageFinder

_FILES = ["a.jpg", "sub/b.jpg", "sub/c.jpg", "other/c.jpg", "sub/café.png", "x 1.JPG", "v/w/d.png"]
_UNIQUE = [path for path in _FILES if not path.endswith("c.jpg")]
_FORMS = {
    "as it is": lambda p: p,
    "Windows": lambda p: "C:\\data\\" + p.replace("/", "\\"),
    "backslashes": lambda p: p.replace("/", "\\"),
    "absolute elsewhere": lambda p: "/mnt/data/photos/" + p,
    "name alone": lambda p: p.rpartition("/")[2],
    "no ending": lambda p: p.rpartition(".")[0],
    "other case": str.upper,
    "decomposed": lambda p: unicodedata.normalize("NFD", p),
    "up and down": lambda p: "../photos/./" + p,
    "percent": lambda p: p.replace(" ", "%20"),
    "blanks": lambda p: f"  {p} ",
    "number": lambda p: p + "#2",
}
_LETTERS = [
    "a",
    "-",
    " ",
    "[",
    "]",
    ":",
    "+",
    "/",
    "\\",
    "\n",
    "\0",
    "é",
    "%",
    "~",
    ".",
    "1",
    "_",
    "猫",
]


def draw(rng: np.random.Generator) -> Case:
    """A path written in another way, or an odd name of a split, a slice or a data set."""
    kind = int(rng.integers(4))
    name = "".join(rng.choice(_LETTERS, int(rng.integers(1, 12)))) * int(rng.choice([1, 1, 40]))
    if kind <= 1:
        path = _UNIQUE[int(rng.integers(len(_UNIQUE)))]
        form = list(_FORMS)[int(rng.integers(len(_FORMS)))]
        return Case(f"{path} {form}", lambda folder: _find(folder, _FORMS[form](path), path))
    if kind == 2:
        return Case(f"split {name!r}", lambda folder: _split(name))
    return Case(f"data set {name!r}", lambda folder: _source(folder, name))


def _find(folder: Path, name: str, path: str) -> None:
    match = ImageFinder(folder / "photos", _FILES).find(name)
    if match.path != path:
        raise WrongError(f"{name!r} leads to {match}, not to {path!r}")


def _split(name: str) -> None:
    parsed = splits.parse_splits(name)
    if parsed != name or not name.replace("_", "a").isalnum():
        raise WrongError(f"{name!r} is taken for {parsed!r}")
    sources.open_source("embedded:emoji", f"train[{name}]")


def _source(folder: Path, name: str) -> None:
    opened = sources.open_source(f"{folder}/{name}", "train")
    raise WrongError(f"{name!r} opens {opened!r}")
