"""Finds pictures that training data and evaluations share, in one data set or several."""

import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from vlmo_jax.datasets.checking.pictures import Looks, Picture
from vlmo_jax.datasets.readers.coco_ids import coco_id_of

# Chosen on the 12,068 drawings of the package, of which these bounds join 105 of 72.8 million pairs
# (flags of one pattern, people who differ by their hair), and still join 97 % of the drawings with
# a JPEG of quality 75 of them, 96 % with one of half the side, 99 % with a brighter one, 22 % with
# one that lost 2 % at each side. docs/DATASETS.md has the table.
MOST_WAVES = 8  # of 64 bits
MOST_COLOURS = 24  # of 255, the largest difference of the fields
_COLOURS = 192
_AT_ONCE = 2**16  # comparisons, whose numbers stay near the processor

PIXELS, LOOKS = "has the pixels of", "looks nearly like"
COCO = "is the same picture of COCO as"


class Place(NamedTuple):
    """Where a picture was seen."""

    source: str
    split: str
    record: str


class Shared(NamedTuple):
    """A picture of an evaluation that training data have too.

    Attributes:
        evaluation, training: where.
        how: PIXELS, COCO or LOOKS.
    """

    evaluation: Place
    training: Place
    how: str


def is_training(split: str) -> bool:
    """Whether a split is trained on: those named train..., and Karpathy's restval."""
    return split.startswith("train") or split == "restval"


class _Seen:
    """Pictures in the order in which they were seen; some 400 bytes each."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.pixels: list[bytes] = []
        self.coco: list[int | None] = []
        self.waves, self.colours = array.array("Q"), bytearray()

    def add(self, place: Place, pixels: bytes, looks: Looks) -> None:
        self.places.append(place)
        self.pixels.append(pixels)
        self.coco.append(coco_id_of(place.record))
        self.waves.append(looks.waves)
        self.colours += looks.colours


class SharedPictures:
    """Gathers the pictures of data sets, and compares those of evaluations with the others."""

    def __init__(self) -> None:
        self._training, self._evaluation = _Seen(), _Seen()

    def add(self, place: Place, pictures: Iterable[Picture]) -> None:
        """Adds the pictures of a record."""
        seen = self._training if is_training(place.split) else self._evaluation
        for picture in pictures:
            seen.add(place, picture.pixels, picture.looks)

    def find(self) -> list[Shared]:
        """Returns for each record of an evaluation and each data set whose training data have its
        picture the first reason: its pixels, COCO's name for it, its looks.
        """
        ours, theirs = self._evaluation, self._training
        reasons = (
            self._by_key(ours.pixels, theirs.pixels, PIXELS),
            self._by_key(ours.coco, theirs.coco, COCO),
            self._by_looks(),
        )
        found: dict[tuple[Place, str], Shared] = {}
        for shared in (item for reason in reasons for item in reason):
            found.setdefault((shared.evaluation, shared.training.source), shared)
        return list(found.values())

    def _by_key(self, ours: Sequence, theirs: Sequence, how: str) -> Iterator[Shared]:
        """Pairs with the same key, in the order of the evaluations; of those with one data set the
        first.
        """
        wanted = {key for key in ours if key is not None}
        first: dict[Any, dict[str, int]] = {}
        for j, key in enumerate(theirs):
            if key in wanted:
                first.setdefault(key, {}).setdefault(self._training.places[j].source, j)
        for i, key in enumerate(ours):
            for j in first.get(key, {}).values():
                yield self._pair(i, j, how)

    def _by_looks(self) -> Iterator[Shared]:
        training = np.frombuffer(self._training.waves, np.uint64)
        waves = np.frombuffer(self._evaluation.waves, np.uint64)
        colours = [
            np.frombuffer(seen.colours, np.uint8).reshape(-1, _COLOURS)
            for seen in (self._evaluation, self._training)
        ]
        for i in range(len(waves)):
            for start in range(0, len(training), _AT_ONCE):
                apart = np.bitwise_count(training[start : start + _AT_ONCE] ^ waves[i])
                near = start + np.flatnonzero(apart <= MOST_WAVES)
                if not len(near):
                    continue
                difference = np.abs(colours[0][i].astype(np.int16) - colours[1][near]).max(-1)
                for j in near[difference <= MOST_COLOURS].tolist():
                    yield self._pair(i, j, LOOKS)

    def _pair(self, evaluation: int, training: int, how: str) -> Shared:
        return Shared(self._evaluation.places[evaluation], self._training.places[training], how)
