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
file's name, and train for statements.*) and statement_id (else a number); others are not read, and
a note names them. label is true or false, 1 or 0, yes or no; left out where nobody knows: such a
statement is judged in evaluations, and not trained on. An image is named by its path, or by
whatever fits one file alone: its name, another case; a note says how many were.

Left out, each by name: statements without text and those of which an image is missing. A line that
cannot be read, has one image, or another label, and a statement_id that comes twice end the build,
with file and line.
"""

from collections.abc import Iterator
from pathlib import Path

from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.example_records import Stated, StatementsReader, UniqueIds
from vlmo_jax.datasets.readers.example_rows import Row, RowFiles
from vlmo_jax.datasets.readers.findings import Findings
from vlmo_jax.datasets.readers.protocol import Entry

EXAMPLE = '{"image_0": "a.jpg", "image_1": "b.jpg", "statement": "Both are cats.", "label": true}'
_IMAGES = ("image_0", "image_1")
_COLUMNS = ("statement", "statement_id", "label", "group")
LABELS = {"true": 1, "1": 1, "yes": 1, "false": 0, "0": 0, "no": 0, "": -1}


class StatementRowsReader(StatementsReader):
    """Reads statements of one's own.

    Args:
        source: the folder of images and statements.
    """

    description = "statements about two images, true or false"

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self._rows = RowFiles(self.source, _IMAGES, _COLUMNS, EXAMPLE)

    @property
    def notes(self) -> list[str]:
        """As `protocol.Reader`."""
        return self._rows.notes()

    def sources(self) -> list[Path]:
        """See `protocol.Reader`."""
        return self._rows.files()

    def entries(self) -> Iterator[Entry]:
        """See `protocol.Reader`."""
        self._findings, ids = Findings(), UniqueIds("statement_id")
        for number, row in enumerate(self._rows.rows()):
            statement_id = row.text("statement_id", needed=False) or str(number)
            ids.add(statement_id, row.where)
            names = [row.image(column) for column in _IMAGES]
            (left, _), (right, _) = found = [self._rows.find(name) for name in names]
            statement, label = row.text("statement"), _label(row)
            problems = [f"{n}: {p}" for n, (_, p) in zip(names, found, strict=True) if p]
            if problems or not statement:
                why = ", ".join(problems) or "it has no text"
                self._findings.left_out[f"{row.where}: statement {statement_id}"] = why
                continue
            stated = Stated(statement, label, row.text("group", needed=False))
            yield self._list_statement(row.split, statement_id, (left, right), stated)


def _label(row: Row) -> int:
    given = row.values.get("label")
    word = "" if given is None else str(given).strip().lower()
    if word not in LABELS:
        raise DataError(f"{row.where} has label {given!r}; use true or false")
    return LABELS[word]
