"""Sheets of embedded drawings with the class of each pixel: the data set "emoji_masks".

On a coloured, shaded or noisy background lie two to four drawings of several sizes, later ones over
earlier ones. A pixel is of the group of the drawing whose silhouette covers it, or background. The
silhouette is what is not joined to the border of the drawing by its white background. Record i of
a split is always the same. Each split has artists of its own: `train` four, and one each have
`validation`, to choose by, `unseen_artist`, by which the recipe was chosen, and `untouched_artist`,
by which nothing was.
"""

import functools
import io
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from vlmo_jax.datasets.images import decode_image
from vlmo_jax.datasets.labels import read_labels
from vlmo_jax.datasets.made.drawings import VALIDATION_ARTIST
from vlmo_jax.datasets.made.source import MadeDataset
from vlmo_jax.datasets.records import SEGMENTATIONS, SegmentationRecord
from vlmo_jax.datasets.sources import EMBEDDED_MADE, EMBEDDED_PREFIX, open_source

BACKGROUND = "background"
GROUPS = (
    "activities",
    "animals-nature",
    "flags",
    "food-drink",
    "objects",
    "people-body",
    "smileys-emotion",
    "symbols",
    "travel-places",
)
CLASSES = (BACKGROUND, *GROUPS)
SIDE = 128  # pixels of a sheet
SMALLEST, LARGEST = 48, 80  # pixels of a drawing
FEWEST, MOST = 2, 4  # drawings on a sheet
UNTOUCHED_ARTIST = "emojione2"
SIZES = {"train": 8000, "validation": 200, "unseen_artist": 400, "untouched_artist": 400}
_SPLIT_OF = {VALIDATION_ARTIST: "validation", UNTOUCHED_ARTIST: "untouched_artist"}
_WHITE = 240  # the least that each channel of a white background has


class Cut(NamedTuple):
    """A drawing, uint8 [S, S, 3], its silhouette, bool [S, S], and its class."""

    pixels: np.ndarray
    silhouette: np.ndarray
    label: int


def silhouette_of(pixels: np.ndarray) -> np.ndarray:
    """What a drawing covers, bool [S, S]: all but the white that is joined to its border.

    Args:
        pixels: uint8 [S, S, 3].
    """
    areas, _ = ndimage.label((pixels >= _WHITE).all(axis=-1))
    border = np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])
    return ~np.isin(areas, np.unique(border[border > 0]))


@functools.lru_cache(maxsize=1)
def _drawings() -> dict[str, tuple[Sequence, list[tuple[int, int]]]]:
    """Split -> records of the drawings, and of those that are used their numbers and classes."""
    pools: dict[str, tuple[Sequence, list[tuple[int, int]]]] = {}
    for stored in ("train", "unseen_artist"):
        source = open_source(f"{EMBEDDED_PREFIX}emoji", stored)
        for number, group in enumerate(read_labels(source, "group")):
            split = _SPLIT_OF.get(_artist(source[number].image_id), stored)
            pools.setdefault(split, (source, []))[1].append((number, CLASSES.index(group)))
    return pools


def _artist(image_id: str) -> str:
    return image_id.partition("/")[0]


@functools.lru_cache(maxsize=16384)
def _cut(split: str, place: int) -> Cut:
    source, drawn = _drawings()[split]
    number, label = drawn[place]
    pixels = np.asarray(decode_image(source[number].image))
    return Cut(pixels, silhouette_of(pixels), label)


def make(split: str, number: int, *, pictured: bool = True) -> SegmentationRecord:
    """Makes record `number` of a split; see `source.MakesRecords`."""
    image_id = f"{split}/{number}"
    if not pictured:
        return SegmentationRecord(b"", np.zeros(0, np.uint8), image_id)
    rng = np.random.default_rng([zlib.crc32(split.encode()), number])
    drawn = _drawings()[split][1]
    sheet, mask = _background(rng), np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(rng.integers(FEWEST, MOST + 1)):
        _lay(sheet, mask, _cut(split, int(rng.integers(len(drawn)))), rng)
    encoded = io.BytesIO()
    Image.fromarray(mask).save(encoded, "PNG", compress_level=1)
    image = b"P6 %d %d 255\n" % (SIDE, SIDE) + sheet.tobytes()
    return SegmentationRecord(image, np.frombuffer(encoded.getvalue(), np.uint8), image_id)


def _background(rng: np.random.Generator) -> np.ndarray:
    """A shade from one colour to another with some noise, uint8 [SIDE, SIDE, 3]."""
    colours, along = rng.integers(90, 256, (2, 3)), np.linspace(0, 1, SIDE)
    angle = rng.random() * np.pi / 2
    share = (along[:, None] * np.sin(angle) + along[None] * np.cos(angle)) / 1.42
    shade = colours[0] + share[..., None] * (colours[1] - colours[0])
    noise = rng.normal(0, rng.random() * 12, (SIDE, SIDE, 1))
    return np.clip(shade + noise, 0, 255).astype(np.uint8)


def _lay(sheet: np.ndarray, mask: np.ndarray, cut: Cut, rng: np.random.Generator) -> None:
    """Lays a drawing on a sheet, and its class on the mask."""
    size = int(rng.integers(SMALLEST, LARGEST + 1))
    top, left = rng.integers(0, SIDE - size + 1, 2)
    shown = Image.fromarray(cut.pixels).resize((size, size), Image.Resampling.BILINEAR)
    covered = Image.fromarray(cut.silhouette).resize((size, size), Image.Resampling.NEAREST)
    inside = np.asarray(covered)
    sheet[top : top + size, left : left + size][inside] = np.asarray(shown)[inside]
    mask[top : top + size, left : left + size][inside] = cut.label


DATASET = MadeDataset(EMBEDDED_MADE["emoji_masks"], SEGMENTATIONS, SIZES, make)
