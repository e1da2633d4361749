"""What the readers of downloads have in common."""

import abc
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from vlmo_jax.datasets import records
from vlmo_jax.datasets.readers.download_walk import require_folder
from vlmo_jax.datasets.readers.findings import Findings
from vlmo_jax.datasets.readers.protocol import Entry
from vlmo_jax.datasets.readers.sample_entries import load_record

Counts = Mapping[str, Mapping[str, int]]


class DownloadReader(abc.ABC):
    """Reads the folder of a download and keeps what it finds; a `protocol.Reader`.

    Args:
        source: the folder.

    Raises:
        MissingDataError: there is no such folder.
    """

    kind = records.IMAGES
    description = ""
    license = ""
    published: Counts = {}

    def __init__(self, source: pathlib.Path) -> None:
        self.source = require_folder(source)
        self._findings = Findings()

    def sources(self) -> list[pathlib.Path]:
        """None: all is read where the images are; as `protocol.Reader`."""
        return []

    @abc.abstractmethod
    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`."""

    def load(self, entry: Entry) -> Any:
        """As `protocol.Reader`."""
        return load_record(self.source, entry)

    def counts(self) -> dict[str, dict[str, int]]:
        """As `protocol.Reader`."""
        return self._findings.counts()

    def left_out(self) -> dict[str, str]:
        """As `protocol.Reader`."""
        return dict(self._findings.left_out)
