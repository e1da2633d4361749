"""What `python -m vlmo_jax.encode` reads: images and texts by name, listed without being opened."""

import argparse
import functools
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets import records, sources
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.examples import TextsOnly
from vlmo_jax.datasets.readers import make_reader
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError, Reader
from vlmo_jax.inference.commands.lines import read_objects


class Input(NamedTuple):
    """One image or text.

    Attributes:
        name: of it among the inputs, which says it again at the next start.
        item: as a model takes it.
    """

    name: str
    item: Any


class Later:
    """An image that is read when it is its turn, by the thread that decodes it.

    Args:
        name: of it.
        load: gives the bytes of the file and the id that it has; LeftOutError where there are none.

    Attributes:
        record_id: once it was read, the id.
    """

    def __init__(self, name: str, load: Callable[[], tuple[bytes, str]]) -> None:
        self.name, self._load, self.record_id = name, load, name

    def read(self) -> bytes:
        """The bytes of the file."""
        data, self.record_id = self._load()
        return data


class Inputs:
    """All inputs of a command, in an order that stays.

    Args:
        args: of the command: input, texts, format, split.

    Attributes:
        left_out: {name: why} of what was seen and is no input, once they were gone through.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args, self._given = args, str(args.input)
        self._reader: Reader | None = None
        self._without_text: dict[str, str] = {}

    @property
    def left_out(self) -> dict[str, str]:
        """See the class."""
        return {**(self._reader.left_out() if self._reader else {}), **self._without_text}

    def __iter__(self) -> Iterator[Input]:
        args, path = self._args, user_path(self._given)
        if args.format:
            return self._of_format(path, args.format)
        if self._given == "-" or path.is_file():
            return self._of_list(path)
        if args.split or not path.is_dir() or (path / "dataset_info.json").exists():
            return self._of_data_set()
        if args.texts:
            raise DataError(
                f"{path} is a folder of no data set; give texts as a file, one a line or"
                ' {"text": ...} a line'
            )
        return self._of_format(path, "image_files")

    def _of_format(self, folder: Path, name: str) -> Iterator[Input]:
        if not folder.is_dir():
            raise MissingDataError(f"{folder} is no folder; --format={name} reads one")
        self._reader = reader = make_reader(name, folder)
        for entry in reader.entries():
            if self._args.texts:
                load_record = functools.partial(reader.load, entry)
                for number, text in enumerate(self._texts(entry.record_id, load_record)):
                    yield Input(f"{entry.record_id}#{number}", text)
            else:
                load = functools.partial(_load, reader, folder, entry)
                yield Input(entry.record_id, Later(entry.record_id, load))

    def _texts(self, name: str, load: Callable[[], Any]) -> tuple[str, ...]:
        """The texts of a record, none where it cannot be read."""
        try:
            return _texts_of(load())
        except LeftOutError as error:
            self._without_text[name] = str(error)
            return ()

    def _of_data_set(self) -> Iterator[Input]:
        for split in self._splits():
            if self._args.texts:
                texts = TextsOnly(sources.open_records(self._given, split))
                for row in range(len(texts)):
                    record = texts[row]
                    name = getattr(record, "image_id", None) or getattr(record, "text_id", row)
                    for number, text in enumerate(_texts_of(record)):
                        yield Input(f"{name}#{number}", text)
                continue
            kinds = [records.IMAGES, records.BARE_IMAGES, records.QUESTIONS]
            source = sources.open_records(self._given, split, kinds)
            for row in range(len(source)):
                name = f"{split}/{row}"
                yield Input(name, Later(name, functools.partial(_image, source, row)))

    def _splits(self) -> list[str]:
        if self._args.split:
            return [self._args.split]
        try:
            return list(sources.split_sizes(self._given))
        except MissingDataError as error:
            if user_path(self._given).exists():
                raise
            raise MissingDataError(
                f"{self._given}: there is no such file, folder or data set; look for a letter that"
                " differs"
            ) from error

    def _of_list(self, path: Path) -> Iterator[Input]:
        folder = Path() if self._given == "-" else path.parent
        key = "text" if self._args.texts else "image"
        if path.suffix in (".jsonl", ".json"):
            for number, row in read_objects(self._given, (key,)):
                yield Input(str(row.get("id", number)), _at(folder, row[key], key))
            return
        with _open_list(path, self._given == "-") as file:
            for number, line in enumerate(file, 1):
                text = line.rstrip("\r\n")
                if text.strip():
                    name = str(number) if self._args.texts else text
                    yield Input(name, _at(folder, text, key))


def _open_list(path: Path, is_stdin: bool) -> IO[str]:
    """A list whose lines may be names of files of any bytes; texts that are no UTF-8 are refused
    one by one.
    """
    if not is_stdin:
        return path.open(encoding="utf-8-sig", errors="surrogateescape")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape")
    return sys.stdin


def _at(folder: Path, value: str, key: str) -> Any:
    """A text, or an image's path where the list says that it lies."""
    return value if key == "text" or "://" in value else folder / user_path(value)


def _load(reader: Reader, folder: Path, entry: Entry) -> tuple[bytes, str]:
    if hasattr(entry.place, "read"):  # a Place, whose image need not be decoded twice
        return entry.place.read(folder), entry.record_id
    return reader.load(entry).image, entry.record_id


def _image(source: Sequence, row: int) -> tuple[bytes, str]:
    record = source[row]
    return record.image, record.image_id


def _texts_of(record: Any) -> tuple[str, ...]:
    for field in ("texts", "questions"):
        if hasattr(record, field):
            return tuple(getattr(record, field))
    return (record.text if hasattr(record, "text") else record.statement,)
