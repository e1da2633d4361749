"""The class of an image, for sets that have one: by its folder, by a table beside them, by its
caption.
"""

import json
import pathlib
import posixpath
from collections.abc import Sequence
from typing import Any

from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.examples import TextsOnly

GROUPS = "groups.json"  # beside the records: {group: {subgroup: [captions]}}
# What may tell the class.
TOLD_BY = ("folder", "group", "subgroup", "text")


def folder_of(record_id: str) -> str:
    """The name of the folder that an image lies in, by the id that the readers of folders give: ""
    for one that lies in none.
    """
    return posixpath.basename(posixpath.dirname(record_id))


def read_labels(source: Any, told_by: str) -> list[str]:
    """The class of each record of a split; all of them are read once.

    Args:
        source: records of images.
        told_by: "folder", the last one in the id; "group" or "subgroup", those of the first caption
            in the set's groups.json; "text", the first caption.

    Raises:
        DataError: a record has no class; names it.
    """
    records: Sequence[Any] = TextsOnly(source)
    table = _read_groups(source, told_by) if told_by in ("group", "subgroup") else {}
    labels = []
    for number in range(len(records)):
        record = records[number]
        if told_by == "folder":
            label = folder_of(record.image_id)
        else:
            text = record.texts[0] if record.texts else ""
            label = table.get(text, "") if table else text
        if not label:
            raise DataError(
                f"image {record.image_id!r} has no class that its {told_by} would tell; use another"
                f" of {', '.join(TOLD_BY)}"
            )
        labels.append(label)
    return labels


def _read_groups(source: Any, told_by: str) -> dict[str, str]:
    """Caption -> class."""
    path = pathlib.Path(getattr(source, "directory", "")) / GROUPS
    if not path.is_file():
        raise DataError(f"{path} is not there, which would tell the {told_by} of each caption")
    groups = json.loads(path.read_text(encoding="utf-8"))
    return {
        caption: group if told_by == "group" else subgroup
        for group, subgroups in groups.items()
        for subgroup, captions in subgroups.items()
        for caption in captions
    }
