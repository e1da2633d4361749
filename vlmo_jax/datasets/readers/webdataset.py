"""Tars of samples, as WebDataset reads them: images with captions.

Formats `webdataset` (images with captions) and `webdataset_images` (images alone, for stage 1):

    SRC/cc3m-train-0000.tar              any name, folders in between or not
        000000000.jpg                    the image: .jpg, .png, .webp or another usual ending
        000000000.txt                    its caption, or
        000000000.json                   {"caption": "...", ...}, read where there is no .txt

Files that share their name up to its first dot are a sample. Ids are the names of tar and sample,
"cc3m-train-0000/000000000". For what img2dataset wrote, `img2dataset` is the better format: it
knows which of its tars are finished, and what should be in them.

Splits: by the first folder from the top that is called train, val(idation) or test, or by such a
word in the name of a tar; else "train".

Images are read in place, nothing is unpacked; packed tars (.tar.gz) are refused. Gaps in the
numbers and any order are fine. Of a tar that was cut or is damaged, the samples before that place
are taken, and the tar is named. Blank captions are dropped and counted, samples without a caption
or an image are left out and named. Links, devices, and names with ".." or "/" in front are left
out, never followed.
"""

import pathlib
from collections.abc import Iterator

from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import MissingDataError
from vlmo_jax.datasets.readers.download_reader import DownloadReader
from vlmo_jax.datasets.readers.download_walk import tars_below
from vlmo_jax.datasets.readers.findings import Findings
from vlmo_jax.datasets.readers.protocol import Entry
from vlmo_jax.datasets.readers.sample_entries import list_samples
from vlmo_jax.datasets.readers.samples import samples_of_tar
from vlmo_jax.datasets.readers.split_names import split_of
from vlmo_jax.datasets.readers.tars import list_tar


class WebdatasetReader(DownloadReader):
    """Reads tars of samples.

    Args:
        source: folder of the tars.

    Raises:
        MissingDataError: there is no such folder.
    """

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        self.description = f"{self.kind.name.capitalize()} from the tars of {source.name}."

    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`."""
        self._findings = found = Findings()
        tars = list(tars_below(self.source))
        if not tars:
            raise MissingDataError(f"{self.source} holds no tar, subfolders included")
        for path in tars:
            listing = list_tar(self.source / path)
            found.add(split_of(f"{path}/"), {"tars": 1})
            found.left_out |= {f"{path}: {name}": why for name, why in listing.left_out.items()}
            samples = samples_of_tar(path, listing.members)
            if listing.problem:
                found.add(split_of(f"{path}/"), {"cut or damaged tars": 1})
                found.left_out[path] = (
                    f"{listing.problem}; the {len(samples):,} samples before are used"
                )
            yield from list_samples(
                self.source, path, samples, found, captions=self.kind is records.IMAGES
            )


class WebdatasetImagesReader(WebdatasetReader):
    """Reads the images alone."""

    kind = records.BARE_IMAGES
