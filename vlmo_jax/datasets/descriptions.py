"""What the files that describe a data set on disk say of its records."""

import itertools
import json
import pathlib
from collections.abc import Sequence

import tensorflow_datasets as tfds

from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import DataError, MissingDataError


def read_description(directory: pathlib.Path) -> tfds.core.DatasetBuilder:
    """Returns what the JSON files of a data set say.

    Raises:
        MissingDataError: one is missing.
        DataError: one is cut or damaged, or describes no data set.
    """
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
    except OSError:
        raise
    except Exception as error:  # TFDS' readers raise nearly anything
        reason = " ".join(str(error).split())[:300]
        raise DataError(
            f"{directory / 'dataset_info.json'} or features.json beside it describes no data set"
            f" that can be read: {type(error).__name__}: {reason}; copy it again or rebuild it"
        ) from error
    return builder


def kind_held(
    directory: pathlib.Path, info: tfds.core.DatasetInfo, kinds: Sequence[records.RecordKind]
) -> records.RecordKind | None:
    """Returns the kind of a data set's records: what its marker says; without one, as in data sets
    of others and of earlier versions, the kind that has exactly its features, or else some of them.
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


def readable(info: tfds.core.DatasetInfo, kind: records.RecordKind) -> bool:
    """Whether the records of a data set can be read as those of a kind."""
    return info.file_format is tfds.core.FileFormat.ARRAY_RECORD and set(info.features).issuperset(
        kind.features
    )


def foreign(
    directory: pathlib.Path,
    info: tfds.core.DatasetInfo,
    held: records.RecordKind | None,
    wanted: records.RecordKind,
) -> str:
    """Returns why a data set cannot be read as records of the wanted kind."""
    holds = "no records that can be read here as"
    if held is not None and held != wanted:
        holds = f"{held.name}, not"
    missing = ", ".join(sorted(set(wanted.features) - set(info.features))) or "none"
    file_format = info.file_format.value if info.file_format else None
    return (
        f"{directory} holds {holds} {wanted.name} (file format {file_format}, missing features:"
        f" {missing}); make {'another' if held else 'it anew'} with: {wanted.command}"
    )
