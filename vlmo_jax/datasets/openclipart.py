"""Builds the embedded data set of clip art: python -m vlmo_jax.datasets.openclipart SRC OUT

SRC holds `images.jsonl` (file, title, description, keywords, category, license) and `images.tar`. A
record is one drawing; its captions are title and description, its keywords the author's and the
category's, its id the file's stem. Every twenty-fifth drawing goes to `validation`, the others to
`train`; drawings that are not in the public domain are left out.

What the package ships in vlmo_jax/datasets/embedded/openclipart was made with this command; the
README there has the details.
"""

import json
import pathlib
import tarfile
from collections.abc import Sequence

import tqdm

from vlmo_jax.datasets import embedding, images, records, writer

VALIDATION_EVERY = 25
_DESCRIPTION = (
    "Clip art of up to 128x128 pixels on white, by many artists, with the titles, descriptions and"
    " keywords they gave."
)
_LICENSE = "Public domain; see the NOTICE of the vlmo_jax package."


def build_openclipart(
    source: pathlib.Path, out: pathlib.Path, *, overwrite: bool = False
) -> dict[str, int]:
    """Builds the data set.

    Args:
        source: the folder described in the docstring of the module.
        out: where the data set goes.
        overwrite: replace a data set that is already there.

    Returns:
        {split: number of records}.

    Raises:
        FileNotFoundError: a file of `source` is missing.
        FileExistsError: as `writer.DatasetWriter`.
        ValueError: an image cannot be decoded.
    """
    with open(source / "images.jsonl", encoding="utf-8") as file:
        drawings = [drawing for drawing in map(json.loads, file) if drawing["license"] == "PD"]
    counts: dict[str, int] = {}
    with (
        tarfile.open(source / "images.tar") as tar,
        writer.DatasetWriter(
            out, description=_DESCRIPTION, license=_LICENSE, overwrite=overwrite
        ) as dataset,
    ):
        for number, drawing in enumerate(
            tqdm.tqdm(drawings, desc="openclipart", unit=" images", disable=None)
        ):
            split = "train" if number % VALIDATION_EVERY else "validation"
            dataset.write(split, make_record(drawing, embedding.read_member(tar, drawing["file"])))
            counts[split] = counts.get(split, 0) + 1
    return counts


def make_record(drawing: dict, data: bytes) -> records.Record:
    """Returns the record of one line of images.jsonl and its file.

    Raises:
        ValueError: the image cannot be decoded.
    """
    image_id = pathlib.Path(drawing["file"]).stem
    try:
        images.decode_image(data)
    except ValueError as error:
        raise ValueError(f"image {image_id} is broken: {error}") from error
    texts = tuple(
        text for text in (drawing["title"], " ".join(drawing["description"].split())) if text
    )
    words = [
        *drawing["keywords"],
        *(part.replace("_", " ") for part in drawing["category"].split("/")),
    ]
    return records.Record(data, texts, tuple(dict.fromkeys(words)), image_id)


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line, builds, and says what was written."""
    embedding.build_embedded(
        build_openclipart,
        argv,
        name="openclipart",
        description=__doc__,
        holds="images.jsonl and images.tar",
        unit="images",
    )


if __name__ == "__main__":
    main()
