"""Random access to the records of a data set on disk."""

import importlib
import logging
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from absl import logging as absl_logging
from array_record.python import array_record_module

from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets import records
from vlmo_jax.datasets.blank import BlankSource
from vlmo_jax.datasets.descriptions import foreign, kind_held, read_description, readable
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.record_sources import JoinedSource, RecordSource

_EMBEDDED = pathlib.Path(__file__).parent / "embedded"
EMBEDDED = {"emoji": _EMBEDDED / "emoji", "openclipart": _EMBEDDED / "openclipart"}
EMBEDDED_TEXTS = {"glosses": _EMBEDDED / "glosses"}
# Made of the drawings when they are read; the folders hold what belongs to them.
EMBEDDED_MADE = {
    name: _EMBEDDED / name for name in ("emoji_questions", "emoji_statements", "emoji_masks")
}
_MADE_BY = {  # modules, imported when they are asked for
    "emoji_questions": "vlmo_jax.datasets.made.questions",
    "emoji_statements": "vlmo_jax.datasets.made.statements",
    "emoji_masks": "vlmo_jax.datasets.made.masks",
}
_ALL_EMBEDDED = EMBEDDED | EMBEDDED_TEXTS | EMBEDDED_MADE
# "blank:emoji_questions" is the same with a grey image in the place of each: for models that are to
# answer from the texts alone.
BLANK_PREFIX = "blank:"
EMBEDDED_PREFIX = "embedded:"  # "embedded:emoji" is the one of the package, whatever lies here


def _is_news(message: logging.LogRecord) -> bool:
    # The reader calls every group of more than one record an error; `RecordKind.group_size`
    # has them where they pay.
    return "Grain requires group size 1" not in str(message.msg)


absl_logging.get_absl_logger().addFilter(_is_news)


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


def open_region_source(source: str, split: str) -> RecordSource | JoinedSource:
    """Opens one split of a data set of regions.

    Args:
        source: a folder; several join with "+".
        split: as of `open_source`.

    Returns:
        A sequence of `records.RegionsRecord`.

    Raises:
        FileNotFoundError, ValueError: as `open_source`.
    """
    return open_records(source, split, [records.REGIONS])


def open_segmentation_source(source: str, split: str) -> RecordSource | JoinedSource:
    """Opens one split of a data set of images with masks.

    Args:
        source: "emoji_masks" or a folder; several join with "+".
        split: as of `open_source`.

    Returns:
        A sequence of `records.SegmentationRecord`.

    Raises:
        FileNotFoundError, ValueError: as `open_source`.
    """
    return open_records(source, split, [records.SEGMENTATIONS])


def open_records(
    source: str, split: str, kinds: Sequence[records.RecordKind] | None = None
) -> RecordSource | JoinedSource:
    """Opens one split of a data set of whatever kind, as `open_source` and `open_text_source` do.

    Args:
        source: as there; or "emoji_questions" or "emoji_statements", which are made of the
            drawings when they are read. With "blank:" in front all images are grey, for models
            that are to answer from the texts alone.
        split: as there.
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
    if all(_is_folder(part) or part in _ALL_EMBEDDED for part in parts):
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
    bare = _embedded_name(source)
    return _ALL_EMBEDDED[bare] if bare else user_path(str(source).removeprefix(BLANK_PREFIX))


def _embedded_name(source: str) -> str:
    """The name, without its prefix, of a data set that comes with the package; "" of another."""
    name = str(source).removeprefix(BLANK_PREFIX)
    bare = name.removeprefix(EMBEDDED_PREFIX)
    if bare not in _ALL_EMBEDDED:
        return ""
    if bare == name and pathlib.Path(name).exists():
        raise DataError(
            f"data set {name!r} comes with the package, and {pathlib.Path(name).absolute()} has"
            f" that name too; write ./{name} for the folder, {EMBEDDED_PREFIX}{name} for the one of"
            " the package"
        )
    return bare


def _made(source: str) -> Any:
    """The data set of a name in EMBEDDED_MADE, None for others."""
    module = _MADE_BY.get(_embedded_name(source))
    return importlib.import_module(module).DATASET if module else None


def _is_folder(source: str) -> bool:
    try:
        return user_path(source).is_dir()
    except (OSError, ValueError):  # too long, or no path at all
        return False


_NO_SPLIT = (ValueError, KeyError, AssertionError, TypeError, AttributeError)  # of TFDS


def _open_records(source: str, split: str, kinds: Sequence[records.RecordKind]) -> Any:
    if source.startswith(BLANK_PREFIX):
        opened = _open_records(source.removeprefix(BLANK_PREFIX), split, kinds)
        return BlankSource(opened, kind_of(source).image_fields)
    if (made := _made(source)) is not None:
        return _open_made(made, split, kinds)
    directory, builder, kind = _open_builder(source, kinds)
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    try:
        instructions = builder.info.splits[split].file_instructions
    except _NO_SPLIT as error:
        raise _no_split(split, directory, sizes) from error
    _check_filled(sum(instruction.take for instruction in instructions), split, directory, sizes)
    for instruction in instructions:
        _check_shard(pathlib.Path(instruction.filename), instruction.examples_in_shard)
    data_source = builder.as_data_source(split, decoders=kind.decoders)
    whole = {name: info for name, info in builder.info.splits.items() if name in _words(split)}
    num_bytes = sum(info.num_bytes or 0 for info in whole.values())
    return RecordSource(directory, split, data_source, kind.parser, num_bytes)


def _words(split: str) -> list[str]:
    """The names in what TFDS takes for a split, such as "train[:90%]+test"."""
    return re.findall(r"[^\W\d][\w-]*", split)


def _open_made(made: Any, split: str, kinds: Sequence[records.RecordKind]) -> Any:
    if made.kind not in kinds:
        raise DataError(
            f"{made.folder.name} holds {made.kind.name}, not {kinds[0].name}; make another with:"
            f" {kinds[0].command}"
        )
    try:
        opened = made.open(split)
    except _NO_SPLIT as error:
        raise _no_split(split, made.folder.name, made.sizes) from error
    _check_filled(len(opened), split, made.folder.name, made.sizes)
    return opened


def _no_split(split: str, where: Any, sizes: Mapping[str, int]) -> DataError:
    shown = split if len(str(split)) <= 60 else f"{split[:60]}..."
    return DataError(f"split={shown!r} is not in {where}; there are: {_list(sizes) or 'none'}")


def _check_filled(count: int, split: str, where: Any, sizes: Mapping[str, int]) -> None:
    if not count:
        raise DataError(f"split={split!r} of {where} is empty; there are: {_list(sizes)}")


def _list(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({size})" for name, size in sizes.items())


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
    if (made := _made(source)) is not None:
        return dict(made.sizes)
    _, builder, _ = _open_builder(source, list(records.KINDS.values()))
    return {name: info.num_examples for name, info in builder.info.splits.items()}


def kind_of(source: str) -> records.RecordKind:
    """Returns the kind of the records of a data set; arguments and errors as of `split_sizes`."""
    if (made := _made(source)) is not None:
        return made.kind
    return _open_builder(source, list(records.KINDS.values()))[2]


def _open_builder(
    source: str, kinds: Sequence[records.RecordKind]
) -> tuple[pathlib.Path, tfds.core.DatasetBuilder, records.RecordKind]:
    wanted = kinds[0]
    directory = source_folder(source)
    if not _is_folder(str(directory)):
        raise MissingDataError(
            f"data set {str(source)!r} is neither a folder nor one that comes with the package"
            f" ({', '.join(_ALL_EMBEDDED)}); make one with: {wanted.command}"
        )
    if not (directory / "dataset_info.json").is_file():
        raise MissingDataError(
            f"{directory} has no dataset_info.json, so it is no data set; make one with:"
            f" {wanted.command}"
        )
    builder = read_description(directory)
    held = kind_held(directory, builder.info, kinds)
    if held is None or held not in kinds or not readable(builder.info, held):
        raise DataError(foreign(directory, builder.info, held, wanted))
    return directory, builder, held


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
