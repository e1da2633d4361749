"""Splits that the names of folders and tars tell."""

import functools
import posixpath
import re

_SPLITS = {
    "train": "train",
    "training": "train",
    "restval": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def split_of(path: str) -> str:
    """The split of what lies at a path: that which a folder before it is called after, or a word of
    the name of a tar, as in "cc3m-validation-0001.tar/0001.jpg"; the first from the top, "train"
    where there is none.

    Args:
        path: relative to the folder of the download, "/" between its parts, tars as folders.
    """
    return _split_of_folder(posixpath.dirname(path))


def split_called(name: str) -> str:
    """The split that a file calls by a name, such as "val" or COCO's "restval"; others stay."""
    return _SPLITS.get(name.lower(), name)


@functools.lru_cache(maxsize=1024)
def _split_of_folder(path: str) -> str:
    for name in path.lower().split("/"):
        words = re.findall("[a-z]+", name) if name.endswith((".tar", ".arrow")) else [name]
        for word in words:
            if word in _SPLITS:
                return _SPLITS[word]
    return "train"
