"""What reads a set of others: it lists the records of a download, and loads them one by one."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.records import RecordKind


class LeftOutError(DataError):
    """An entry that gives no record, such as a missing image; the message says why."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What will become one record: where it lies and what was said about it, not its bytes.

    Entries are small and can be pickled: they are handed to other processes and machines.

    Attributes:
        split: of the data set that is made.
        record_id: unique in the data set; the id of the record.
        place: what `Reader.load` finds its files by, such as a path below the download.
        content: what the record holds beside its images, such as captions.
    """

    split: str
    record_id: str
    place: Any
    content: Any = None


class Reader(Protocol):
    """Reads one format. Can be pickled once `entries` was exhausted.

    A reader may also have `files()`, {name: text} of files that belong beside the records, such as
    the answers that a model chooses from, and `notes`, lines about what was read in another way
    than it stands there; both are asked for once `entries` was exhausted.

    Attributes:
        kind: of the records.
        description: what the data set is, one sentence.
        license: under which terms it is given, "" where the format does not say.
        published: {split: {what is counted, such as "images": the published number}}; {} where none
            is published.
    """

    kind: RecordKind
    description: str
    license: str
    published: Mapping[str, Mapping[str, int]]

    def sources(self) -> list[Path]:
        """The files that `entries` reads, such as annotations, whose hashes the manifest keeps."""

    def entries(self) -> Iterator[Entry]:
        """Lists the entries in the order of the records, without opening an image.

        Raises:
            MissingDataError, DataError: a file is missing, or holds something else (with file and
                line); a missing image is no error here but a LeftOutError of `load`.
        """

    def load(self, entry: Entry) -> Any:
        """Reads the files of an entry, decodes its images once, and returns the record.

        Raises:
            LeftOutError: the entry gives none.
        """

    def counts(self) -> dict[str, dict[str, int]]:
        """What `entries` found, {split: {what: number}} with the names of `published`, once it is
        exhausted.
        """

    def left_out(self) -> dict[str, str]:
        """What `entries` saw and did not list, {name: why}, once it is exhausted."""
