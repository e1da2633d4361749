"""Random access to the records of a data set on disk."""

import bisect
import itertools
import json
import logging
import operator
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow_datasets as tfds
from absl import logging as absl_logging
from array_record.python import array_record_module

from vlmo_jax.commands.endings import UserError, machine_error
from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import DataError, MissingDataError

_EMBEDDED = pathlib.Path(__file__).parent / "embedded"
EMBEDDED = {"emoji": _EMBEDDED / "emoji", "openclipart": _EMBEDDED / "openclipart"}
EMBEDDED_TEXTS = {"glosses": _EMBEDDED / "glosses"}
EMBEDDED_PREFIX = "embedded:"  # "embedded:emoji" is the one of the package, whatever lies here


def _is_news(message: logging.LogRecord) -> bool:
    # The reader calls every group of more than one record an error; `records.RecordKind.group_size`
    # has them where they pay.
    return "Grain requires group size 1" not in str(message.msg)


absl_logging.get_absl_logger().addFilter(_is_news)


class BrokenRecordError(UserError, ValueError):
    """A record that cannot be read although its file is whole: its bytes were damaged on disk."""


class RecordSource(Sequence):
    """The records of one split, read when asked for; can be pickled and read from many threads.

    Attributes:
        directory: of the data set.
        split: of it, or a part of one.
        num_bytes: of all records of the splits that it is made of; 0 where that is not known.

    Shards are opened at the first record read from them, by each process for itself.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        split: str,
        data_source: Sequence,
        parser: Callable[[Any], Any],
        num_bytes: int = 0,
    ) -> None:
        self.directory = directory
        self.split = split
        self.num_bytes = num_bytes
        self._data_source = data_source
        self._parser = parser

    def __len__(self) -> int:
        return len(self._data_source)

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]  # no slices
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {self!r}")
        try:
            return self._parser(self._data_source[index])
        except (RuntimeError, ValueError, KeyError) as error:
            if machine := machine_error(error):
                raise machine from error
            where = f"record {index} of split {self.split!r} in {self.directory}"
            raise BrokenRecordError(f"{where} cannot be read: {error}") from error

    def __repr__(self) -> str:
        return f"RecordSource({str(self.directory)!r}, {self.split!r}, {len(self)} records)"


class JoinedSource(Sequence):
    """The records of several sources, one after another."""

    def __init__(self, parts: Sequence[RecordSource]) -> None:
        self.parts = tuple(parts)
        self.num_bytes = sum(part.num_bytes for part in self.parts)
        self._ends = list(itertools.accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]  # no slices
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
        source: "emoji" or "openclipart" (shipped with the package; "embedded:emoji" too) or a
            folder made by `python -m vlmo_jax.datasets.build`; several joined by "+" are one, as in
            "emoji+openclipart".
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


def open_image_source(source: str, split: str) -> RecordSource | JoinedSource:
    """Opens one split of a data set of images, with captions or without, as `open_source` does.

    Args:
        source, split: as there.

    Returns:
        A sequence of `Record`, whose texts may be none.

    Raises:
        FileNotFoundError, ValueError: as `open_source`.
    """
    return open_records(source, split, [records.IMAGES, records.BARE_IMAGES])


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
    source: str, split: str, kinds: Sequence[records.RecordKind] | None = None
) -> RecordSource | JoinedSource:
    """Opens one split of a data set of whatever kind, as `open_source` and `open_text_source` do.

    Args:
        source, split: as there.
        kinds: of records to take, None for all of `records.KINDS`; messages are about the first.

    Returns:
        A sequence of the records.

    Raises:
        FileNotFoundError, ValueError: as `open_source`.
    """
    kinds = kinds or list(records.KINDS.values())
    parts = [_open_records(part, split, kinds) for part in split_names(source)]
    return parts[0] if len(parts) == 1 else JoinedSource(parts)


def split_names(source: str) -> list[str]:
    """Returns the data sets that a name joins with "+"; a folder with "+" in its name is one.

    Raises:
        DataError: it can mean both.
    """
    parts = str(source).split("+")
    if len(parts) == 1 or not _is_folder(source):
        return parts
    if all(_is_folder(part) or part in EMBEDDED | EMBEDDED_TEXTS for part in parts):
        raise DataError(
            f"data set {source!r} is a folder, and so are {' and '.join(parts)}; write ./{source}"
            " for the one folder"
            if not str(source).startswith((".", "/", "~"))
            else f"data set {source!r} is a folder, and so are {' and '.join(parts)}; rename one"
        )
    return [str(source)]


def source_folder(source: str) -> pathlib.Path:
    """Returns the folder that the name of one data set means.

    Args:
        source: the name of one that comes with the package, the same after "embedded:", or a
            folder.

    Raises:
        DataError: a folder here has the name of one that comes with the package.
        NoHomeError: it lies in a home folder that is unknown.
    """
    embedded, name = EMBEDDED | EMBEDDED_TEXTS, str(source)
    bare = name.removeprefix(EMBEDDED_PREFIX)
    if bare in embedded:
        if bare == name and pathlib.Path(name).exists():
            raise DataError(
                f"data set {name!r} comes with the package, and {pathlib.Path(name).absolute()} has"
                f" that name too; write ./{name} for the folder, {EMBEDDED_PREFIX}{name} for the"
                " one of the package"
            )
        return embedded[bare]
    return user_path(name)


def _is_folder(source: str) -> bool:
    try:
        return user_path(source).is_dir()
    except (OSError, ValueError):  # too long, or no path at all
        return False


def _open_records(source: str, split: str, kinds: Sequence[records.RecordKind]) -> RecordSource:
    directory, builder, kind = _open_builder(source, kinds)
    sizes = ", ".join(f"{name} ({info.num_examples})" for name, info in builder.info.splits.items())
    try:
        instructions = builder.info.splits[split].file_instructions
    except (ValueError, KeyError, AssertionError, TypeError, AttributeError) as error:
        shown = split if len(str(split)) <= 60 else f"{split[:60]}..."
        raise DataError(
            f"split={shown!r} is not in {directory}; there are: {sizes or 'none'}"
        ) from error
    if not sum(instruction.take for instruction in instructions):
        raise DataError(f"split={split!r} of {directory} is empty; there are: {sizes}")
    for instruction in instructions:
        _check_shard(pathlib.Path(instruction.filename), instruction.examples_in_shard)
    data_source = builder.as_data_source(split, decoders=kind.decoders)
    whole = {name: info for name, info in builder.info.splits.items() if name in _words(split)}
    num_bytes = sum(info.num_bytes or 0 for info in whole.values())
    return RecordSource(directory, split, data_source, kind.parser, num_bytes)


def _words(split: str) -> list[str]:
    """The names in what TFDS takes for a split, such as "train[:90%]+test"."""
    return re.findall(r"[^\W\d][\w-]*", split)


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
    _, builder, _ = _open_builder(source, list(records.KINDS.values()))
    return {name: info.num_examples for name, info in builder.info.splits.items()}


def kind_of(source: str) -> records.RecordKind:
    """Returns the kind of the records of a data set; arguments and errors as of `split_sizes`."""
    return _open_builder(source, list(records.KINDS.values()))[2]


def _open_builder(
    source: str, kinds: Sequence[records.RecordKind]
) -> tuple[pathlib.Path, tfds.core.DatasetBuilder, records.RecordKind]:
    wanted, embedded = kinds[0], EMBEDDED | EMBEDDED_TEXTS
    directory = source_folder(source)
    if not _is_folder(str(directory)):
        raise MissingDataError(
            f"data set {str(source)!r} is neither a folder nor one that comes with the package"
            f" ({', '.join(embedded)}); make one with: {wanted.command}"
        )
    if not (directory / "dataset_info.json").is_file():
        raise MissingDataError(
            f"{directory} has no dataset_info.json, so it is no data set; make one with:"
            f" {wanted.command}"
        )
    builder = _read_description(directory)
    held = _kind_held(directory, builder.info, kinds)
    if held is None or held not in kinds or not _readable(builder.info, held):
        raise DataError(_foreign(directory, builder.info, held, wanted))
    return directory, builder, held


def _read_description(directory: pathlib.Path) -> tfds.core.DatasetBuilder:
    """What the JSON files of a data set say."""
    for name in ("dataset_info.json", "features.json", records.METADATA):
        path = directory / name
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else None
            if text is None and name == "features.json":
                raise MissingDataError(f"{path} is missing; copy the data set again or rebuild it")
            if text is not None and not isinstance(json.loads(text), dict):
                raise ValueError("it holds no object")
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path} is cut or damaged: {error}; copy the data set again or rebuild it"
            ) from error
    try:
        builder = tfds.builder_from_directory(directory)
        _ = [info.num_examples for info in builder.info.splits.values()], builder.info.features
    except Exception as error:  # TFDS' readers raise nearly anything
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            f"{directory / 'dataset_info.json'} or features.json beside it describes no data set"
            f" that can be read: {type(error).__name__}: {reason}; copy it again or rebuild it"
        ) from error
    return builder


def _kind_held(
    directory: pathlib.Path, info: tfds.core.DatasetInfo, kinds: Sequence[records.RecordKind]
) -> records.RecordKind | None:
    """The kind of a data set's records: what its marker says; without one, as in data sets of
    others and of earlier versions, the kind that has exactly its features, or else some of them.
    """
    known = records.KINDS | {kind.marker: kind for kind in kinds}
    marker = (info.metadata or {}).get(records.MARKER)
    if marker is not None:
        if marker not in known:
            raise DataError(
                f"{directory} holds records of kind {marker!r}, which this version cannot read; it"
                f" reads {', '.join(known)}"
            )
        return known[marker]
    found = set(info.features)
    exact = (kind for kind in known.values() if found == set(kind.features))
    some = (kind for kind in known.values() if found.issuperset(kind.features))
    return next(itertools.chain(exact, some), None)


def _readable(info: tfds.core.DatasetInfo, kind: records.RecordKind) -> bool:
    return info.file_format is tfds.core.FileFormat.ARRAY_RECORD and set(info.features).issuperset(
        kind.features
    )


def _foreign(
    directory: pathlib.Path,
    info: tfds.core.DatasetInfo,
    held: records.RecordKind | None,
    wanted: records.RecordKind,
) -> str:
    """Says why a data set cannot be read as records of the wanted kind."""
    holds = "no records that can be read here as"
    if held is not None and held != wanted:
        holds = f"{held.name}, not"
    missing = ", ".join(sorted(set(wanted.features) - set(info.features))) or "none"
    file_format = info.file_format.value if info.file_format else None
    return (
        f"{directory} holds {holds} {wanted.name} (file format {file_format}, missing features:"
        f" {missing}); make {'another' if held else 'it anew'} with: {wanted.command}"
    )


def _check_shard(path: pathlib.Path, count: int) -> None:
    if not path.is_file():
        raise MissingDataError(f"{path} is missing; copy the data set again or rebuild it")
    try:
        reader = array_record_module.ArrayRecordReader(str(path))
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; copy it again or rebuild it") from error
    # The count stands at the end of the file: a cut or half-copied file has none, and then says 0.
    found = reader.num_records()
    if reader.ok():
        reader.close()
    if found != count:
        raise DataError(
            f"{path} is truncated or damaged: {found} records can be found in its"
            f" {path.stat().st_size} bytes, dataset_info.json says {count}; copy the data set again"
            " or rebuild it"
        )
