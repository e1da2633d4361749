"""Builds the embedded data set of emoji drawings: python -m vlmo_jax.datasets.emoji SRC OUT

SRC holds `images.jsonl` (artist, file, codepoints, duplicate_of), `concepts.jsonl` (codepoints,
name, keywords, group, subgroup) and one `ARTIST.tar` of images for each artist. A record is one
drawing; its caption is the concept's name, its keywords are the concept's keywords, its id is
"artist/file stem". Three splits, in the order of images.jsonl:

- `unseen_artist`: every drawing by twemoji, which no other split has. - `unseen_concepts`: noto's
drawings of 100 concepts; of these no artist's drawing is in `train`. They are drawn with
  `numpy.random.default_rng(0)` among the sorted concepts that noto drew and that no other drawing
  of noto's repeats.
- `train`: everything else, less the drawings that repeat another one of the same artist pixel for
pixel.

`groups.json` beside the records says which group and subgroup of the Unicode each concept is of:
{group: {subgroup: [names]}}, in the order of concepts.jsonl.

What the package ships in vlmo_jax/datasets/embedded/emoji was made with this command; the README
there has the details.
"""

import contextlib
import json
import pathlib
import tarfile
from collections.abc import Iterable, Sequence

import numpy as np
import tqdm

from vlmo_jax.datasets import embedding, images, labels, records, writer

GROUPS = labels.GROUPS
TEST_ARTIST = "twemoji"
UNSEEN_ARTIST = "unseen_artist"  # the split
CONCEPT_ARTIST = "noto"
UNSEEN_CONCEPTS = 100
_DESCRIPTION = (
    "Emoji drawings, 64x64 pixels on white, by seven artists, with the Unicode CLDR English names"
    " and keywords."
)
_LICENSE = (
    "CC-BY-4.0, Apache-2.0, MIT and Unicode-3.0, by artist; see the NOTICE of the vlmo_jax package."
)


def build_emoji(
    source: pathlib.Path,
    out: pathlib.Path,
    *,
    unseen_concepts: int = UNSEEN_CONCEPTS,
    overwrite: bool = False,
) -> dict[str, int]:
    """Builds the data set.

    Args:
        source: the folder described in the docstring of the module.
        out: where the data set goes.
        unseen_concepts: number of concepts held out of training.
        overwrite: replace a data set that is already there.

    Returns:
        {split: number of records}.

    Raises:
        FileNotFoundError: a file of `source` is missing.
        FileExistsError: as `writer.DatasetWriter`.
        ValueError: an image cannot be decoded.
    """
    drawings = _read_lines(source / "images.jsonl")
    concepts = {
        concept["codepoints"]: concept for concept in _read_lines(source / "concepts.jsonl")
    }
    unseen = draw_unseen_concepts(drawings, unseen_concepts)
    counts: dict[str, int] = {}
    dataset = writer.DatasetWriter(
        out, description=_DESCRIPTION, license=_LICENSE, overwrite=overwrite
    )
    with contextlib.ExitStack() as opened:
        tars = {
            artist: opened.enter_context(tarfile.open(source / f"{artist}.tar"))
            for artist in sorted({d["artist"] for d in drawings})
        }
        opened.enter_context(dataset)
        dataset.add_file(GROUPS, _table_of_groups(concepts.values()))
        for drawing in tqdm.tqdm(drawings, desc="emoji", unit=" images", disable=None):
            split = split_of(drawing, unseen)
            if split is None:
                continue
            image_id = f"{drawing['artist']}/{pathlib.Path(drawing['file']).stem}"
            data = embedding.read_member(tars[drawing["artist"]], drawing["file"])
            try:
                images.decode_image(data)
            except ValueError as error:
                raise ValueError(f"image {image_id} of {source} is broken: {error}") from error
            concept = concepts[drawing["codepoints"]]
            dataset.write(
                split,
                records.Record(data, (concept["name"],), tuple(concept["keywords"]), image_id),
            )
            counts[split] = counts.get(split, 0) + 1
    return counts


def draw_unseen_concepts(drawings: Sequence[dict], count: int) -> frozenset[str]:
    """Returns the code points of the concepts held out of training.

    Args:
        drawings: the lines of images.jsonl.
        count: how many to draw.

    Returns:
        `count` of the concepts drawn by `CONCEPT_ARTIST`, the same for the same drawings.
    """
    repeated = {d["duplicate_of"] for d in drawings}
    candidates = sorted(
        d["codepoints"]
        for d in drawings
        if d["artist"] == CONCEPT_ARTIST
        and d["duplicate_of"] is None
        and f"{d['artist']}/{pathlib.Path(d['file']).stem}" not in repeated
    )
    return frozenset(np.random.default_rng(0).choice(candidates, count, replace=False).tolist())


def split_of(drawing: dict, unseen: frozenset[str]) -> str | None:
    """Returns the split a drawing belongs to, None if it is left out."""
    if drawing["artist"] == TEST_ARTIST:
        return UNSEEN_ARTIST
    if drawing["codepoints"] in unseen:
        return "unseen_concepts" if drawing["artist"] == CONCEPT_ARTIST else None
    return "train" if drawing["duplicate_of"] is None else None


def _table_of_groups(concepts: Iterable[dict]) -> str:
    groups: dict[str, dict[str, list[str]]] = {}
    for concept in concepts:
        subgroups = groups.setdefault(concept["group"], {})
        subgroups.setdefault(concept["subgroup"], []).append(concept["name"])
    return json.dumps(groups, ensure_ascii=False, indent=1) + "\n"


def _read_lines(path: pathlib.Path) -> list[dict]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line, builds, and says what was written."""
    embedding.build_embedded(
        build_emoji,
        argv,
        name="emoji",
        description=__doc__,
        holds="images.jsonl, concepts.jsonl and the tars",
        unit="images",
    )


if __name__ == "__main__":
    main()
