"""Statements of one's own about two images, as a table or JSON lines beside them.

    SRC/
      statements.jsonl         or .csv, .tsv; or a file a split: train.jsonl, ...
      photos/a.jpg ...         anywhere below SRC

statements.jsonl, a line a statement:

    {"image_0": "a.jpg", "image_1": "b.jpg", "statement": "Both are cats.", "label": true}
    {"image_0": "a.jpg", "image_1": "c.jpg", "statement": "Both are cats.", "label": false}

statements.csv:

    image_0,image_1,statement,label,group
    a.jpg,b.jpg,Both are cats.,true,cats
    a.jpg,c.jpg,Both are cats.,false,cats

Further columns: group, the same of statements that are consistent together; split (else that of the
file's name, and train for statements.*) and statement_id (else a number). label is true or false, 1
or 0, yes or no; left out where nobody knows: such a statement is judged in evaluations, and not
trained on. An image is named by its path, or by whatever fits one file alone: its name, another
case.

Left out, each by name: statements without text and those of which an image is missing. A line that
cannot be read, has one image, or another label, and a statement_id that comes twice end the build,
with file and line.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.example_rows import Folder, Row
from vlmo_jax.datasets.readers.image_bytes import read_image
from vlmo_jax.datasets.readers.protocol import Entry

EXAMPLE = '{"image_0": "a.jpg", "image_1": "b.jpg", "statement": "Both are cats.", "label": true}'
LABELS = {"true": 1, "1": 1, "yes": 1, "false": 0, "0": 0, "no": 0, "": -1}


class StatementRowsReader:
    """Reads statements of one's own; see `protocol.Reader`.

    Args:
        source: the folder of images and statements.
    """

    kind = records.STATEMENTS
    description = "statements about two images, true or false"
    license = ""
    published: Mapping[str, Mapping[str, int]] = {}

    def __init__(self, source: Path) -> None:
        self._source, self._folder = Path(source), Folder(source, EXAMPLE)
        self._counts: dict[str, dict[str, int]] = {}
        self._left_out: dict[str, str] = {}

    def sources(self) -> list[Path]:
        """See `protocol.Reader`."""
        return self._folder.files()

    def entries(self) -> Iterator[Entry]:
        """See `protocol.Reader`."""
        self._counts, self._left_out = {}, {}
        seen: dict[str, str] = {}
        for number, row in enumerate(self._folder.rows()):
            statement_id = row.text("statement_id", needed=False) or str(number)
            if statement_id in seen:
                raise DataError(
                    f"{row.where} has statement_id {statement_id}, as {seen[statement_id]}; leave"
                    " one out"
                )
            seen[statement_id] = row.where
            names = [row.text(side) for side in ("image_0", "image_1")]
            found = [self._folder.find(name) for name in names]
            statement, label = row.text("statement"), _label(row)
            problems = [f"{n}: {p}" for n, (_, p) in zip(names, found, strict=True) if p]
            if problems or not statement:
                why = ", ".join(problems) or "it has no text"
                self._left_out[f"{row.where}: statement {statement_id}"] = why
                continue
            counts = self._counts.setdefault(row.split, {"statements": 0, "true": 0})
            counts["statements"] += 1
            counts["true"] += label == 1
            places = tuple(str(self._source / path) for path, _ in found)
            content = (statement, label, row.text("group", needed=False))
            yield Entry(row.split, statement_id, places, content)

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


def _label(row: Row) -> int:
    given = row.values.get("label")
    word = "" if given is None else str(given).strip().lower()
    if word not in LABELS:
        raise DataError(f"{row.where} has label {given!r}; use true or false")
    return LABELS[word]
