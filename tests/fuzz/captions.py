"""Captions files as people write them: separators, quotation marks, line ends, encodings, JSON."""

import csv
import io
import json
from pathlib import Path

import numpy as np

from tests.fuzz.case import Case, WrongError
from vlmo_jax.datasets.readers import captions

_WORDS = (
    "a cat",
    'the "end"',
    "naïve café",
    "猫が好き",
    "it's",
    "one, two",
    "a; b",
    "x | y",
    '5" nail',
)
_STARTS = ("", '"', '"Stop" he said ', "“", "'", "\\")
_ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1")
_ENDS = ("\n", "\r\n", "\r")


def _texts(rng: np.random.Generator, count: int) -> list[str]:
    pick = lambda words: words[int(rng.integers(len(words)))]
    return [f"{pick(_STARTS)}{pick(_WORDS)} {i}" for i in range(count)]


def _table(rng: np.random.Generator, rows: list[tuple[str, str]]) -> tuple[str, str]:
    """(suffix, text) of a table whose captions are quoted by the rules, or not at all."""
    separator = ",;\t|"[int(rng.integers(4))]
    suffix = ".tsv" if separator == "\t" else (".csv", ".txt")[int(rng.integers(2))]
    end = _ENDS[int(rng.integers(3))]
    header = [("image", "text")] if rng.random() < 0.7 else []
    if rng.random() < 0.5:
        file = io.StringIO()
        csv.writer(file, delimiter=separator, lineterminator=end).writerows([*header, *rows])
        return suffix, file.getvalue()
    return suffix, "".join(separator.join(row) + end for row in [*header, *rows])


def _json(rng: np.random.Generator, rows: list[tuple[str, str]]) -> tuple[str, str]:
    objects = [{"image": name, "caption": text} for name, text in rows]
    form = int(rng.integers(4))
    if form == 0:
        return ".jsonl", "".join(json.dumps(row) + "\n" for row in objects)
    if form == 1:
        return ".json", json.dumps(objects, indent=int(rng.integers(3)) or None)
    if form == 2:
        return ".json", json.dumps({name: [text] for name, text in rows}, ensure_ascii=False)
    return ".json", json.dumps(
        {
            "images": [{"id": i, "file_name": name} for i, (name, _) in enumerate(rows)],
            "annotations": [{"image_id": i, "caption": text} for i, (_, text) in enumerate(rows)],
        }
    )


def draw(rng: np.random.Generator) -> Case:
    """A captions file of up to eight rows, whole or with some of its bytes changed."""
    count = int(rng.integers(1, 9))
    names = [f"{i}.jpg" for i in range(count)]
    rows = list(zip(names, _texts(rng, count), strict=True))
    suffix, text = _table(rng, rows) if rng.random() < 0.6 else _json(rng, rows)
    encoding = _ENCODINGS[int(rng.integers(len(_ENCODINGS)))]
    data = text.encode(encoding, "replace")
    damaged = rng.random() < 0.3
    if damaged:
        place = int(rng.integers(len(data)))
        data = data[:place] + rng.bytes(int(rng.integers(0, 4))) + data[place + 1 :]

    def run(folder: Path) -> None:
        path = folder / f"c{suffix}"
        path.write_bytes(data)
        read = captions.read_captions(path, names)
        found = {image.path: image.texts for image in read.images}
        expected = {name: [" ".join(text.split())] for name, text in rows}
        if not damaged and encoding != "latin-1" and found != expected:
            raise WrongError(f"{found} instead of {expected}, of {data!r}")

    return Case(f"{suffix} in {encoding}{', damaged' if damaged else ''}: {data[:60]!r}", run)
