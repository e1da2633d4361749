"""What lies in the folder of a download: files and folders by their names."""

import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.download_walk import walk
from vlmo_jax.datasets.readers.image_paths import has_image_suffix


def find_file(source: pathlib.Path, names: str | Sequence[str], cure: str) -> pathlib.Path:
    """The file of a name in a download, at its top or one folder below.

    Args:
        source: folder of the download.
        names: of the file; of several, one that is there.
        cure: where it comes from, for the message.

    Raises:
        MissingDataError: there is none.
        DataError: several folders have one.
    """
    found = find_file_or_none(source, names)
    if found is None:
        wanted = names if isinstance(names, str) else " or ".join(names)
        raise MissingDataError(f"{source} has no {wanted}, nor has a folder in it; {cure}")
    return found


def find_file_or_none(
    source: pathlib.Path, names: str | Sequence[str], depth: int = 1
) -> pathlib.Path | None:
    """As `find_file`, but up to `depth` folders below; None where there is none."""
    for name in (names,) if isinstance(names, str) else names:
        for level in range(depth + 1):
            found = [path for path in sorted(source.glob("*/" * level + name)) if path.is_file()]
            if len(found) > 1:
                raise DataError(f"{source} has {found[0]} and {found[1]}; move one away")
            if found:
                return found[0]
    return None


def find_folder(source: pathlib.Path, names: str | Sequence[str], cure: str) -> pathlib.Path:
    """The folder of a name in a download, at its top or one folder below, as `find_file`.

    Raises:
        MissingDataError: there is none.
    """
    return find_folders(source, names, cure)[0]


def find_folders(source: pathlib.Path, names: str | Sequence[str], cure: str) -> list[pathlib.Path]:
    """As `find_folder`; of each name the one that is there, where at least one is."""
    names = (names,) if isinstance(names, str) else names
    found = []
    for name in names:
        below = (path for path in sorted(source.glob(f"*/{name}")) if path.is_dir())
        path = source / name if (source / name).is_dir() else next(below, None)
        found += [path] if path else []
    if not found:
        raise MissingDataError(
            f"{source} has no folder {' or '.join(names)}, nor has a folder in it; {cure}"
        )
    return found


def list_files(folder: pathlib.Path) -> Iterator[str]:
    """The files below a folder, as paths relative to it, in the way of `download_walk.walk`."""
    for one in walk(folder):
        yield from map(one.at, one.files)


def numbered_images(source: pathlib.Path, folder: pathlib.Path) -> dict[int, str]:
    """The files below a folder whose names are numbers, with the ending of an image or none.

    Args:
        source: what the paths are relative to.
        folder: below it.

    Returns:
        {number: path}.

    Raises:
        DataError: two files have the same number.
    """
    prefix = folder.relative_to(source).as_posix()
    found: dict[int, str] = {}
    for name in list_files(folder):
        stem, suffix = os.path.splitext(name.rpartition("/")[2])
        if not (stem.isascii() and stem.isdigit() and (not suffix or has_image_suffix(name))):
            continue
        path = f"{prefix}/{name}"
        number = int(stem)
        if number in found:
            raise DataError(
                f"{source / found[number]} and {source / path} have the same number; move one away"
            )
        found[number] = path
    return found


def any_image(paths: Iterable[str]) -> bool:
    """Whether one of the names ends as those of images do."""
    return any(map(has_image_suffix, paths))
