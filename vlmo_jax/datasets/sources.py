"""Random access to the records of a data set on disk."""

import bisect
import itertools
import logging
import operator
import pathlib
from collections.abc import Callable, Sequence

import tensorflow_datasets as tfds
from absl import logging as absl_logging
from array_record.python import array_record_module

from vlmo_jax.datasets import records

_EMBEDDED = pathlib.Path(__file__).parent / "embedded"
EMBEDDED = {"emoji": _EMBEDDED / "emoji", "openclipart": _EMBEDDED / "openclipart"}
EMBEDDED_TEXTS = {"glosses": _EMBEDDED / "glosses"}
_KINDS = (records.IMAGES, records.TEXTS)


def _is_news(message: logging.LogRecord) -> bool:
    # The reader calls every group of more than one record an error; `records.RecordKind.group_size`
    # has them where they pay.
    return "Grain requires group size 1" not in str(message.msg)


absl_logging.get_absl_logger().addFilter(_is_news)


class BrokenRecordError(ValueError):
    """A record that cannot be read although its file is whole: its bytes were damaged on disk."""


class RecordSource(Sequence):
    """The records of one split, read when asked for; can be pickled and read from many threads.

    Shards are opened at the first record read from them, by each process for itself.
    """

    def __init__(
        self, directory: pathlib.Path, split: str, data_source: Sequence, from_example: Callable
    ):
        self.directory = directory
        self.split = split
        self._data_source = data_source
        self._from_example = from_example

    def __len__(self) -> int:
        return len(self._data_source)

    def __getitem__(self, index: int) -> records.Record | records.TextRecord:
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {self!r}")
        try:
            return self._from_example(self._data_source[index])
        except (RuntimeError, ValueError, KeyError) as error:
            where = f"record {index} of split {self.split!r} in {self.directory}"
            raise BrokenRecordError(f"{where} cannot be read: {error}") from error

    def __repr__(self) -> str:
        return f"RecordSource({str(self.directory)!r}, {self.split!r}, {len(self)} records)"


class JoinedSource(Sequence):
    """The records of several sources, one after another."""

    def __init__(self, parts: Sequence[RecordSource]):
        self.parts = tuple(parts)
        self._ends = list(itertools.accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> records.Record | records.TextRecord:
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {self!r}")
        part = bisect.bisect_right(self._ends, index)
        return self.parts[part][index - (self._ends[part - 1] if part else 0)]

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))


def open_source(source: str, split: str) -> RecordSource | JoinedSource:
    """Opens one split of a data set for random access and checks that its files are whole.

    Args:
        source: "emoji" or "openclipart" (shipped with the package) or a folder made by `python -m
            vlmo_jax.datasets.build`; several joined by "+" are one, as in "emoji+openclipart".
        split: name of a split there, or a part of one as TFDS writes it, such as "train[:1000]" or
            "train[90%:]".

    Returns:
        A sequence of `Record`; images stay encoded.

    Raises:
        FileNotFoundError: there is no such data set, or one of its shards is missing.
        ValueError: the folder is no data set of images, has no such split, the split is empty, or a
            shard is damaged.
    """
    return open_records(source, split, [records.IMAGES])


def open_text_source(source: str, split: str) -> RecordSource | JoinedSource:
    """Opens one split of a data set of texts, as `open_source` does for images.

    Args:
        source: "glosses" (shipped with the package) or a folder made by `python -m
            vlmo_jax.datasets.build_text`.
        split: as in `open_source`.

    Returns:
        A sequence of `TextRecord`, in which the parts of a long document follow each other.

    Raises:
        FileNotFoundError, ValueError: as `open_source`, for a data set of texts.
    """
    return open_records(source, split, [records.TEXTS])


def open_records(
    source: str, split: str, kinds: Sequence[records.RecordKind] = _KINDS
) -> RecordSource | JoinedSource:
    """Opens one split of a data set of whatever kind, as `open_source` and `open_text_source` do.

    Args:
        source, split: as there.
        kinds: of records to take; messages are about the first.

    Returns:
        A sequence of the records.

    Raises:
        FileNotFoundError, ValueError: as `open_source`.
    """
    parts = [_open_records(part, split, kinds) for part in str(source).split("+")]
    return parts[0] if len(parts) == 1 else JoinedSource(parts)


def _open_records(source: str, split: str, kinds: Sequence[records.RecordKind]) -> RecordSource:
    directory, builder, kind = _open_builder(source, kinds)
    sizes = ", ".join(f"{name} ({info.num_examples})" for name, info in builder.info.splits.items())
    try:
        instructions = builder.info.splits[split].file_instructions
    except (ValueError, KeyError, AssertionError) as error:
        raise ValueError(
            f"split={split!r} is not in {directory}; there are: {sizes or 'none'}"
        ) from error
    if not sum(instruction.take for instruction in instructions):
        raise ValueError(f"split={split!r} of {directory} is empty; there are: {sizes}")
    for instruction in instructions:
        _check_shard(pathlib.Path(instruction.filename), instruction.examples_in_shard)
    data_source = builder.as_data_source(split, decoders=kind.decoders)
    return RecordSource(directory, split, data_source, kind.from_example)


def split_sizes(source: str) -> dict[str, int]:
    """Returns how many records each split of a data set has.

    Args:
        source: as in `open_source` or `open_text_source`.

    Returns:
        {name of the split: number of records}.

    Raises:
        FileNotFoundError: there is no such data set.
        ValueError: the folder is no data set of records.
    """
    _, builder, _ = _open_builder(source, _KINDS)
    return {name: info.num_examples for name, info in builder.info.splits.items()}


def kind_of(source: str) -> records.RecordKind:
    """Returns the kind of the records of a data set; arguments and errors as of `split_sizes`."""
    return _open_builder(source, _KINDS)[2]


def _open_builder(
    source: str, kinds: Sequence[records.RecordKind]
) -> tuple[pathlib.Path, tfds.core.DatasetBuilder, records.RecordKind]:
    wanted, embedded = kinds[0], EMBEDDED | EMBEDDED_TEXTS
    directory = embedded.get(str(source)) or pathlib.Path(source).expanduser()
    if not directory.is_dir():
        raise FileNotFoundError(
            f"data set {str(source)!r} is neither a folder nor one that comes with the package"
            f" ({', '.join(embedded)}); make one with: {wanted.command}"
        )
    if not (directory / "dataset_info.json").is_file():
        raise FileNotFoundError(
            f"{directory} has no dataset_info.json, so it is no data set; make one with:"
            f" {wanted.command}"
        )
    builder = tfds.builder_from_directory(directory)
    found, file_format = set(builder.info.features), builder.info.file_format
    held = next((kind for kind in _KINDS if found.issuperset(kind.features)), None)
    if held not in kinds or file_format is not tfds.core.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"{directory} holds"
            f" {f'{held.name}, not' if held else 'no records that can be read here as'}"
            f" {wanted.name} (file format {file_format and file_format.value}, missing features:"
            f" {', '.join(sorted(set(wanted.features) - found)) or 'none'}); make"
            f" {'another' if held else 'it anew'} with: {wanted.command}"
        )
    return directory, builder, held


def _check_shard(path: pathlib.Path, count: int) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; copy the data set again or rebuild it")
    reader = array_record_module.ArrayRecordReader(str(path))
    # The count stands at the end of the file: a cut or half-copied file has none, and then says 0.
    found = reader.num_records()
    if reader.ok():
        reader.close()
    if found != count:
        raise ValueError(
            f"{path} is truncated or damaged: {found} records can be found in its"
            f" {path.stat().st_size} bytes, dataset_info.json says {count}; copy the data set again"
            " or rebuild it"
        )
