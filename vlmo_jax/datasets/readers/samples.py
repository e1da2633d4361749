"""Samples as WebDataset has them: files that share a name up to its first dot, KEY.jpg, KEY.txt and
KEY.json, in a tar or in a folder.
"""

import dataclasses
import json
import pathlib
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vlmo_jax.datasets.readers.image_paths import has_image_suffix
from vlmo_jax.datasets.readers.places import InFile, InTar, Place
from vlmo_jax.datasets.readers.protocol import LeftOutError
from vlmo_jax.datasets.readers.tars import Member


@dataclasses.dataclass
class Sample:
    """The files of a sample.

    Attributes:
        key: the name that they share, with the folders before it.
        parts: {what follows the first dot, in small letters: where it lies}.
    """

    key: str
    parts: dict[str, Place] = dataclasses.field(default_factory=dict)

    @property
    def images(self) -> dict[str, Place]:
        """Those of its files that are images; KEY.mask.png is something else."""
        return {
            end: place
            for end, place in self.parts.items()
            if "." not in end and has_image_suffix(f"x.{end}")
        }


def samples_of_tar(path: str, members: Iterable[Member]) -> list[Sample]:
    """The samples of a tar in the order of their first members, hidden files left out.

    Args:
        path: of the tar, relative to the folder of the download.
        members: of it.
    """
    return _group((member.name, InTar(path, member.offset, member.size)) for member in members)


def samples_of_folder(root: pathlib.Path, path: str) -> list[Sample]:
    """The samples of a folder, sorted by their keys, hidden files left out.

    Args:
        root: folder of the download.
        path: of the folder, relative to it.
    """
    names = sorted(file.name for file in (root / path).iterdir())
    return _group((name, InFile(f"{path}/{name}")) for name in names)


def _group(files: Iterable[tuple[str, Place]]) -> list[Sample]:
    samples: dict[str, Sample] = {}
    for name, place in files:
        folder, base = posixpath.split(name)
        stem, _, end = base.partition(".")
        if stem and end:
            key = posixpath.join(folder, stem)
            samples.setdefault(key, Sample(key)).parts[end.lower()] = place
    return list(samples.values())


def captions_of(root: pathlib.Path, sample: Sample) -> list[str] | None:
    """The captions of a sample: its .txt, which is one, else "caption" or "captions" of its .json.

    Args:
        root: that the places are below.
        sample: to read.

    Returns:
        Captions with single blanks, "" for blank ones; None where the sample has no such file.

    Raises:
        LeftOutError: a file cannot be read as text or JSON.
    """
    if "txt" in sample.parts:
        return [clean(_decode(sample.parts["txt"].read(root), "its .txt"))]
    if "json" in sample.parts:
        return list(_captions_of_json(_decode(sample.parts["json"].read(root), "its .json")))
    return None


def _decode(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LeftOutError(f"{what} is not UTF-8: {error}") from error


def _captions_of_json(text: str) -> Iterator[str]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LeftOutError(f"its .json is no JSON: {error}") from error
    if not isinstance(values, Mapping):
        raise LeftOutError("its .json holds no object")
    found = next((values[key] for key in ("caption", "captions") if values.get(key)), "")
    for value in found if isinstance(found, list) else [found]:
        yield clean(value)


def clean(value: Any) -> str:
    """A caption with single blanks, none at its ends; "" for None.

    Raises:
        LeftOutError: it is no text, or cannot be written.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise LeftOutError(f"its caption is no text: {repr(value)[:60]}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LeftOutError("its caption holds half a character") from error
    return " ".join(value.split())
