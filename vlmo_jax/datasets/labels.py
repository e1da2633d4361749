"""The class of an image, for sets that have one: by its folder, by a table beside them, by its
caption.
"""

import dataclasses
import json
import pathlib
import posixpath
from collections.abc import Mapping, Sequence
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


@dataclasses.dataclass(frozen=True)
class ClassOf:
    """Tells the class of a record; can be pickled.

    Args:
        told_by: one of TOLD_BY.
        groups: caption -> class, where these tell it.
    """

    told_by: str
    groups: Mapping[str, str]

    def __call__(self, record: Any) -> str:
        """The class of a record of images, "" where it has none."""
        if self.told_by == "folder":
            return folder_of(record.image_id)
        text = record.texts[0] if record.texts else ""
        return self.groups.get(text, "") if self.groups else text


def class_of(source: Any, told_by: str) -> ClassOf:
    """What tells the classes of the records of a split.

    Args:
        source: records of images.
        told_by: "folder", the last one in the id; "group" or "subgroup", those of the first caption
            in the set's groups.json; "text", the first caption.

    Raises:
        DataError: there is no groups.json where it is needed.
    """
    groups = _read_groups(source, told_by) if told_by in ("group", "subgroup") else {}
    return ClassOf(told_by, groups)


def read_labels(source: Any, told_by: str) -> list[str]:
    """The class of each record of a split; all of them are read once.

    Args:
        source, told_by: see `class_of`.

    Raises:
        DataError: a record has no class; names it.
    """
    records: Sequence[Any] = TextsOnly(source)
    tell = class_of(source, told_by)
    labels = []
    for number in range(len(records)):
        record = records[number]
        label = tell(record)
        if not label:
            raise DataError(
                f"image {record.image_id!r} has no class that its {told_by} would tell; use another"
                f" of {', '.join(TOLD_BY)}"
            )
        labels.append(label)
    return labels


def _read_groups(source: Any, told_by: str) -> dict[str, str]:
    """Caption -> class, of a data set or of several that are joined."""
    parts = getattr(source, "parts", (source,))
    return {text: name for part in parts for text, name in _groups_of(part, told_by).items()}


def _groups_of(source: Any, told_by: str) -> dict[str, str]:
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
