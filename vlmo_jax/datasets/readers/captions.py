"""Finds and reads captions files, and gathers the rows of each image."""

import collections
import dataclasses
import pathlib
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vlmo_jax.datasets.errors import CaptionsError, MissingDataError
from vlmo_jax.datasets.readers import caption_rows, image_paths
from vlmo_jax.datasets.readers.caption_rows import OTHER_SUFFIXES, SUFFIXES
from vlmo_jax.datasets.readers.keys import EXAMPLE, find_key, numbered_keys, refuse_keys
from vlmo_jax.datasets.readers.plain_text import whole

_NO_CAPTIONS = ("readme", "license", "licence", "notice", "requirements", "changelog")
# What people keep captions in, and what is not read here.
_FOREIGN = (".xlsx", ".xls", ".ods", ".parquet", ".arrow", ".pkl", ".mat", ".xml", ".yaml", ".yml")
_PACKED = (".gz", ".zip", ".xz", ".bz2", ".7z")


@dataclasses.dataclass
class CaptionedImage:
    """What a captions file says of one image.

    Attributes:
        path: the path of the image as the folder has it, "/" between its parts.
        texts: its captions, each once, blank ones left out.
        keywords: its tags, each once.
        split: the split the file gives it, or None.
        blank: number of blank captions that were left out.
    """

    path: str
    texts: list[str] = dataclasses.field(default_factory=list)
    keywords: list[str] = dataclasses.field(default_factory=list)
    split: str | None = None
    blank: int = 0


@dataclasses.dataclass
class Captions:
    """What a captions file says.

    Attributes:
        images: in the order in which they first appear.
        missing: {name that leads to no image: why}, in order.
        notes: lines about what was read in another way than it stands there.
    """

    images: list[CaptionedImage]
    missing: dict[str, str]
    notes: list[str]


def find_captions_file(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the one captions file at the top of a folder, None where each image has a text file
    beside it or there are images alone.

    Raises:
        MissingDataError: there is none, but something that may hold captions.
        CaptionsError: there are several.
    """
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    images = {path.stem for path in files if image_paths.has_image_suffix(path.name)}
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    for suffix in OTHER_SUFFIXES:
        others = [path for path in files if path.suffix.lower() == suffix]
        named = [path for path in others if not path.stem.lower().startswith(_NO_CAPTIONS)]
        if suffix == ".txt" and len(named) > 1 and any(path.stem in images for path in others):
            break
        found = found or [path for path in named if path.stem not in images]
    if len(found) > 1:
        raise CaptionsError(
            f"{folder} has several captions files ({', '.join(path.name for path in found)}); "
            "say which one with --captions FILE"
        )
    if not found and not any(path.suffix.lower() == ".txt" for path in files):
        _refuse_overlooked(folder, files)
    return found[0] if found else None


def _refuse_overlooked(folder: pathlib.Path, files: Sequence[pathlib.Path]) -> None:
    """Refuses a folder that has no captions file at its top, but something like one."""
    suffixes = ", ".join("*" + suffix for suffix in (*SUFFIXES, *OTHER_SUFFIXES))
    packed = [p for p in files if p.name.lower().endswith((*_FOREIGN, *_PACKED)) and p.is_file()]
    if packed:
        raise MissingDataError(
            f"{folder} has no captions file ({suffixes}) but {packed[0].name}, which is not read;"
            f" save it as one of these, with {EXAMPLE}, and name it with --captions FILE, or build"
            " images alone with --no_captions"
        )
    below = (p for name in SUFFIXES for p in sorted(folder.glob(f"*/**/*{name}")))
    inner = next(below, None)
    if inner is not None:
        raise MissingDataError(
            f"{folder} has no captions file ({suffixes}) at its top, but {inner}; name one with"
            " --captions FILE, or build images alone with --no_captions"
        )


def read_captions(
    path: pathlib.Path, folder_paths: Iterable[str], folder: pathlib.Path | None = None
) -> Captions:
    """Reads a captions file and gathers the rows of each image.

    A row names an image by its path in the folder, or by what fits one file alone: its name, a path
    of another machine that ends alike, letters of another case.

    Args:
        path: a file of JSON lines, JSON or a table, with the keys (columns, in any case) that
            `keys.KEYS` lists: an image, its captions (a string or, in JSON, a list), maybe
            keywords (a list, or a string with commas) and maybe a split. Several rows may speak of
            the same image. White space within a caption becomes single blanks.
        folder_paths: paths of the image files relative to the folder, "/" between their parts.
        folder: that folder, None for where `path` is.

    Returns:
        The images, the names that lead to none, and what is odd.

    Raises:
        MissingDataError: there is no such file.
        CaptionsError: the file is of another kind, a row cannot be read or lacks a key, or rows
            disagree on an image's split.
    """
    finder = image_paths.ImageFinder(folder or path.parent, folder_paths)

    def is_image(name: str) -> bool:
        return image_paths.has_image_suffix(name) or finder.find(name).path is not None

    reading = caption_rows.Reading()
    return _gather(caption_rows.read_rows(path, is_image, reading), finder, reading)


def read_sidecars(folder: pathlib.Path, folder_paths: Sequence[str]) -> Captions:
    """Reads the captions of text files beside images, `0001.txt` beside `0001.jpg`: each line that
    is not blank is one.

    Args:
        folder: of the images.
        folder_paths: paths of all its files, relative to it.

    Returns:
        The images that have such a file, in the order of their paths.

    Raises:
        CaptionsError: a text file is not UTF-8.
    """
    images = {
        posixpath.splitext(path)[0]: path
        for path in sorted(folder_paths)
        if image_paths.has_image_suffix(path)
    }
    found, missing = [], {}
    for path in sorted(folder_paths):
        stem, suffix = posixpath.splitext(path)
        if suffix.lower() != ".txt" or posixpath.basename(stem).lower().startswith(_NO_CAPTIONS):
            continue
        if stem not in images:
            missing[path] = "no image of that name beside it"
            continue
        data = (folder / path).read_bytes()
        try:
            lines = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        except UnicodeDecodeError as error:
            raise CaptionsError(f"{folder / path} is not UTF-8: {error}; save it so") from error
        texts = _strings(lines.splitlines() or [""], str(folder / path))
        image = CaptionedImage(images[stem])
        _add_new(image.texts, texts)
        image.blank = int(not image.texts)
        found.append(image)
    return Captions(found, missing, [])


def _gather(
    rows: Iterator[caption_rows.Row],
    finder: image_paths.ImageFinder,
    reading: caption_rows.Reading,
) -> Captions:
    # By the path, and where that was guessed from another one also by the folder that was given.
    found: dict[tuple[str, str], CaptionedImage] = {}
    missing: dict[str, str] = {}
    matches: dict[str, image_paths.Match] = {}
    for where, row in rows:
        name = _image_name(row, where)
        if name not in matches:
            matches[name] = finder.find(name)
        match = matches[name]
        if match.path is None:
            missing[name] = match.problem
            continue
        key = (match.path, image_paths.given_folder(name, match))
        _add_row(found.setdefault(key, CaptionedImage(match.path)), row, where)
    notes = [*reading.notes(), *image_paths.match_notes(matches)]
    return Captions(_without_rivals(found, missing), missing, notes)


def _without_rivals(
    found: Mapping[tuple[str, str], CaptionedImage], missing: dict[str, str]
) -> list[CaptionedImage]:
    """The images; those that only resemble a file which rows of another folder mean too are
    missing.
    """
    folders = collections.defaultdict(list)
    for path, folder in found:
        folders[path].append(folder)
    kept = []
    for (path, folder), image in found.items():
        rival = next((other for other in folders[path] if other != folder), None)
        if folder and rival is not None:
            name = posixpath.join(folder, posixpath.basename(path))
            meant = posixpath.join(rival, posixpath.basename(path)) if rival else path
            missing[name] = f"no such file; {path} is what {meant!r} means"
        else:
            kept.append(image)
    return kept


def _image_name(row: Mapping[str, Any], where: str) -> str:
    key = find_key(row, "image")
    if key is None:
        refuse_keys(where, list(row), "image")
    value = row[key or ""]
    if value is None or value == "":
        raise CaptionsError(f"{where} has no value for {key}")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise CaptionsError(f"{where} has {repr(value)[:60]} where the path of an image must be")
    return whole(str(value), where).strip()


def _add_row(image: CaptionedImage, row: Mapping[str, Any], where: str) -> None:
    key, numbered = find_key(row, "text"), numbered_keys(row, "text")
    if key is None and not numbered:
        refuse_keys(where, list(row), "text")
    texts = _strings(row[key], where) if key is not None else []
    for name in numbered:
        texts += [text for text in _strings(row[name], where) if text]
    texts = texts or [""]
    image.blank += texts.count("")
    _add_new(image.texts, texts)
    keywords_key = find_key(row, "keywords")
    keywords = row[keywords_key] if keywords_key is not None else None
    keywords = keywords.split(",") if isinstance(keywords, str) else keywords
    _add_new(image.keywords, _strings(keywords, where))
    split = row.get("split")
    if split is not None and not isinstance(split, str):
        raise CaptionsError(f"{where} has split {str(split)[:60]}, no name; put it in quotes")
    split = split.strip() if split else None
    if split and image.split and split != image.split:
        raise CaptionsError(
            f"{where} puts image {image.path} into split {split!r}, an earlier row into"
            f" {image.split!r}"
        )
    image.split = split or image.split


def _strings(value: Any, where: str) -> list[str]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    for item in values:
        if not isinstance(item, str):
            raise CaptionsError(
                f"{where} has {repr(item)[:60]} where a string or a list of strings must be"
            )
    return [" ".join(whole(item, where).split()) for item in values]


def _add_new(strings: list[str], new: Sequence[str]) -> None:
    strings.extend(dict.fromkeys(string for string in new if string and string not in strings))
