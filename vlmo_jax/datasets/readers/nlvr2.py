"""NLVR2: statements about two photographs, true or false.

    SRC/
      train.json, dev.json, test1.json, test2.json       JSON lines, from github.com/lil-lab/nlvr
      balanced_dev.json, balanced_test1.json, unbalanced_dev.json, unbalanced_test1.json
      images/train/<directory>/train-1-0-img0.png ...
      dev/dev-0-0-img0.png ..., test1/, test2/           beside images/, or in it

Files of statements may lie up to three folders down, as in nlvr2/data/balanced; whichever is
missing is left out. Many files that are called .png are JPEG: they are read by their contents. The
left image of a pair is img0. The images come by form from the authors; of the URLs in the files
about 5 % are dead.

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

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.download_folder import find_file_or_none
from vlmo_jax.datasets.readers.example_records import Stated, StatementsReader, UniqueIds
from vlmo_jax.datasets.readers.findings import Findings
from vlmo_jax.datasets.readers.json_lines import read_objects
from vlmo_jax.datasets.readers.plain_text import whole
from vlmo_jax.datasets.readers.protocol import Entry

SPLITS = ("train", "dev", "test1", "test2")
SUBSETS = ("balanced_dev", "balanced_test1", "unbalanced_dev", "unbalanced_test1")
LABELS = {"true": 1, "false": 0, "": -1}
_DEPTH = 3  # folders above a file of statements


class Nlvr2Reader(StatementsReader):
    """Reads the official files.

    Args:
        source: the folder of the download.
    """

    description = "NLVR2: statements about two photographs, true or false"
    published: Mapping[str, Mapping[str, int]] = {
        "train": {"statements": 86_373},
        "dev": {"statements": 6_982, "true": 3_551},
        "test1": {"statements": 6_967, "true": 3_558},
        "test2": {"statements": 6_970},
    }

    def sources(self) -> list[Path]:
        """See `protocol.Reader`."""
        paths = (self._find(name) for name in (*SPLITS, *SUBSETS))
        return [path for path in paths if path is not None]

    def entries(self) -> Iterator[Entry]:
        """See `protocol.Reader`."""
        found = {split: self._find(split) for split in SPLITS}
        if not any(found.values()):
            raise MissingDataError(
                f"{self.source} has no statements; put train.json, dev.json, test1.json or"
                " test2.json of NLVR2 there"
            )
        self._findings, seen = Findings(), UniqueIds("identifier")
        for split, path in found.items():
            for where, row in read_objects(path) if path else ():
                identifier = _text(row, "identifier", where)
                seen.add(identifier, where)
                statement = " ".join(_text(row, "sentence", where).split())
                if not statement:
                    self._findings.left_out[identifier] = "it has no text"
                    continue
                images = self._images(split, identifier, row, where)
                stated = Stated(statement, _label(row, where), group_of(identifier, where))
                yield self._list_statement(split, identifier, images, stated)

    def _images(self, split: str, identifier: str, row: Mapping, where: str) -> tuple[str, str]:
        places = (f"images/{split}", split)
        there = (place for place in places if (self.source / place).is_dir())
        folder = next(there, places[split != "train"])
        if split == "train":
            if "directory" not in row:
                raise DataError(f"{where} has no 'directory', in which the images of train lie")
            folder += f"/{row['directory']}"
        pair = identifier.rpartition("-")[0]
        return f"{folder}/{pair}-img0.png", f"{folder}/{pair}-img1.png"

    def files(self) -> dict[str, str]:
        """Text files that belong beside the records, {name: contents}: the subsets that are scored
        alone, too.
        """
        subsets = {}
        for name in SUBSETS:
            path = self._find(name)
            if path is not None:
                rows = read_objects(path)
                subsets[name] = [_text(row, "identifier", where) for where, row in rows]
        return {"subsets.json": json.dumps(subsets) + "\n"} if subsets else {}

    def _find(self, name: str) -> Path | None:
        return find_file_or_none(self.source, f"{name}.json", _DEPTH)


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


def _text(row: Mapping, name: str, where: str) -> str:
    if not isinstance(row.get(name), str):
        raise DataError(f"{where} has no text as {name!r}; is it a file of NLVR2?")
    return whole(row[name], where)


def _label(row: Mapping, where: str) -> int:
    word = str(row.get("label", "")).strip().lower()
    if word not in LABELS:
        raise DataError(f'{where} has label {row["label"]!r}; it must be "True" or "False"')
    return LABELS[word]
