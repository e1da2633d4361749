"""Captions of pictures, from where people have them: a file of captions, a text file beside each,
or the picture itself.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vlmo_jax.commands.endings import SHORTAGES
from vlmo_jax.datasets.readers.captions import read_captions
from vlmo_jax.search.building import notes
from vlmo_jax.search.building.walk import FoundFile

_LONGEST = 1 << 16  # bytes of a text file that are looked at


class CaptionsBeside:
    """The captions of found files, the first of these that there is.

    Args:
        root: folder of the pictures.
        files: that were found.
        captions_file: as `datasets.readers.captions` reads it, or None.

    Attributes:
        missing: {name in the file that leads to no picture: why}.

    Raises:
        MissingDataError: there is no such file.
        CaptionsError: it cannot be read.
    """

    def __init__(self, root: Path, files: Sequence[FoundFile], captions_file: Path | None) -> None:
        self._root = root
        self._of_file: dict[str, str] = {}
        self.missing: Mapping[str, str] = {}
        if captions_file is not None:
            found = read_captions(captions_file, [one.path for one in files], root)
            self._of_file = {one.path: " / ".join(one.texts) for one in found.images}
            self.missing = found.missing

    def of(self, found: FoundFile, note: str | None) -> str | None:
        """The caption of a picture.

        Args:
            found: its file.
            note: what the picture says itself.
        """
        own = notes.clean(self._of_file.get(found.path))
        return own or self._beside(found.beside) or note

    def _beside(self, path: str | None) -> str | None:
        if path is None:
            return None
        try:
            with open(self._root / path, "rb") as file:
                text = notes.decode(file.read(_LONGEST))
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            return None
        lines = (" ".join(line.split()) for line in text.splitlines())
        return notes.clean(" / ".join(line for line in lines if line))
