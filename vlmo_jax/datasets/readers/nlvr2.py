"""NLVR2: statements about two photographs, true or false.

    SRC/
      train.json, dev.json, test1.json, test2.json       JSON lines, from github.com/lil-lab/nlvr
      balanced_dev.json, balanced_test1.json, unbalanced_dev.json, unbalanced_test1.json
      images/train/<directory>/train-1-0-img0.png ...
      dev/dev-0-0-img0.png ..., test1/, test2/           beside images/, or in it

Files of statements may lie up to two folders down, as in nlvr2/data; whichever is missing is left
out. Many files that are called .png are JPEG: they are read by their contents. The left image of a
pair is img0. The images come by form from the authors; of the URLs in the files about 5 % are dead.

Splits: train, dev, test1 (test-P) and test2 (test-U), with the labels of the files. A record is a
statement with its two images. Its group is the identifier with the pair blanked, "dev-0-*-2": the
statements of a group share a sentence, and consistency counts those that are all right.

The balanced and unbalanced files hold statements of dev and test1: they make no splits of their
own, but subsets.json beside the records lists them, and the evaluation scores them too.

Left out, each by name: statements of which an image is missing or broken, and those without text. A
line that is no JSON, a label that is neither "True" nor "False" and an identifier that comes twice
end the build, with file and line.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.image_bytes import read_image
from vlmo_jax.datasets.readers.protocol import Entry

SPLITS = ("train", "dev", "test1", "test2")
SUBSETS = ("balanced_dev", "balanced_test1", "unbalanced_dev", "unbalanced_test1")
LABELS = {"true": 1, "false": 0, "": -1}
Line = tuple[str, Mapping[str, Any]]


class Nlvr2Reader:
    """Reads the official files; see `protocol.Reader`.

    Args:
        source: the folder of the download.
    """

    kind = records.STATEMENTS
    description = "NLVR2: statements about two photographs, true or false"
    license = ""
    published: Mapping[str, Mapping[str, int]] = {
        "train": {"statements": 86_373},
        "dev": {"statements": 6_982, "true": 3_551},
        "test1": {"statements": 6_967, "true": 3_558},
        "test2": {"statements": 6_970},
    }

    def __init__(self, source: Path) -> None:
        self._source = Path(source)
        self._counts: dict[str, dict[str, int]] = {}
        self._left_out: dict[str, str] = {}

    def sources(self) -> list[Path]:
        """See `protocol.Reader`."""
        paths = (self._find(name) for name in (*SPLITS, *SUBSETS))
        return [path for path in paths if path is not None]

    def entries(self) -> Iterator[Entry]:
        """See `protocol.Reader`."""
        found = {split: self._find(split) for split in SPLITS}
        if not any(found.values()):
            raise MissingDataError(
                f"{self._source} has no statements; put train.json, dev.json, test1.json or"
                " test2.json of NLVR2 there"
            )
        self._counts, self._left_out = {}, {}
        seen: dict[str, str] = {}
        for split, path in found.items():
            for where, row in _lines(path) if path else ():
                identifier = _text(row, "identifier", where)
                if identifier in seen:
                    raise DataError(
                        f"{where} has identifier {identifier}, as {seen[identifier]}; leave one out"
                    )
                seen[identifier] = where
                statement = " ".join(_text(row, "sentence", where).split())
                if not statement:
                    self._left_out[identifier] = "it has no text"
                    continue
                label = _label(row, where)
                counts = self._counts.setdefault(split, {"statements": 0, "true": 0})
                counts["statements"] += 1
                counts["true"] += label == 1
                images = self._images(split, identifier, row, where)
                group = group_of(identifier, where)
                yield Entry(split, identifier, images, (statement, label, group))

    def _images(self, split: str, identifier: str, row: Mapping, where: str) -> tuple[str, str]:
        places = (self._source / "images" / split, self._source / split)
        folder = next((place for place in places if place.is_dir()), places[split != "train"])
        if split == "train":
            if "directory" not in row:
                raise DataError(f"{where} has no 'directory', in which the images of train lie")
            folder /= str(row["directory"])
        pair = identifier.rpartition("-")[0]
        return str(folder / f"{pair}-img0.png"), str(folder / f"{pair}-img1.png")

    def load(self, entry: Entry) -> records.StatementRecord:
        """See `protocol.Reader`."""
        left, right = (read_image(Path(place)) for place in entry.place)
        statement, label, group = entry.content
        return records.StatementRecord(
            image_0=left,
            image_1=right,
            statement=statement,
            label=np.array(label, np.int32),
            statement_id=entry.record_id,
            group_id=group,
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """See `protocol.Reader`."""
        return self._counts

    def left_out(self) -> dict[str, str]:
        """See `protocol.Reader`."""
        return self._left_out

    def files(self) -> dict[str, str]:
        """Text files that belong beside the records, {name: contents}: the subsets that are scored
        alone, too.
        """
        subsets = {}
        for name in SUBSETS:
            path = self._find(name)
            if path is not None:
                subsets[name] = [_text(row, "identifier", where) for where, row in _lines(path)]
        return {"subsets.json": json.dumps(subsets) + "\n"} if subsets else {}

    def _find(self, name: str) -> Path | None:
        patterns = (f"{name}.json", f"*/{name}.json", f"*/*/{name}.json", f"*/*/*/{name}.json")
        places = (path for pattern in patterns for path in sorted(self._source.glob(pattern)))
        return next((place for place in places if place.is_file()), None)


def group_of(identifier: str, where: str) -> str:
    """The identifier with the pair blanked: "dev-0-1-2" -> "dev-0-*-2".

    Raises:
        DataError: it has not four parts; `where` it stands is named.
    """
    parts = identifier.split("-")
    if len(parts) != 4:
        raise DataError(
            f"{where} has identifier {identifier!r}; it must be split-set-pair-sentence, such as"
            " dev-0-1-2"
        )
    return f"{parts[0]}-{parts[1]}-*-{parts[3]}"


def _lines(path: Path) -> Iterator[Line]:
    """The objects of a file of JSON lines, and where each stands."""
    with open(path, encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"{path} line {number}"
                try:
                    row = json.loads(line)
                except (json.JSONDecodeError, RecursionError) as error:
                    raise DataError(f"{where} is no JSON: {error}; download it again") from error
                if not isinstance(row, dict):
                    raise DataError(f"{where} must be an object with identifier and sentence")
                yield where, row
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8: {error}; download it again") from error


def _text(row: Mapping, name: str, where: str) -> str:
    if not isinstance(row.get(name), str):
        raise DataError(f"{where} has no text as {name!r}; is it a file of NLVR2?")
    return row[name]


def _label(row: Mapping, where: str) -> int:
    word = str(row.get("label", "")).strip().lower()
    if word not in LABELS:
        raise DataError(f'{where} has label {row["label"]!r}; it must be "True" or "False"')
    return LABELS[word]
