"""The embedded drawings by name, kind and artist, of which questions and statements are made.

A split has the drawings of artists that no other split has: `train` five of them, `validation` one,
to choose by, and `unseen_artist` one of which nothing was chosen. A tenth of the drawings by the
artists of `train` is in none; it is the other hand where an evaluation compares two. Names, groups
and subgroups that are asked for are found in all splits; what they are follows from the data.
"""

import collections
import functools
import json
import random
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from vlmo_jax.datasets import emoji
from vlmo_jax.datasets.sources import EMBEDDED, EMBEDDED_PREFIX, open_source

VALIDATION_ARTIST = "noto-blob"  # the one that retrieval is chosen by, too
KEPT_SHARE = 10  # one drawing in so many by the artists of `train` is kept for comparisons
SPLITS = ("train", "validation", emoji.UNSEEN_ARTIST)

_NAMED_GROUPS = (
    "animals-nature",
    "food-drink",
    "travel-places",
    "activities",
    "objects",
    "smileys-emotion",
)
_FEWEST_DRAWINGS = 8  # of a subgroup, in each split
_ENDINGS_OF_ONE = ("ss", "us", "is")  # of names that end in "s" and are of one thing
_LONGEST_NAME = 16  # letters, so that two of them fit into a question of 16 tokens

T = TypeVar("T")


class Drawing(NamedTuple):
    """One drawing.

    Attributes:
        image: the encoded file.
        name: of the concept.
        keywords: of the concept.
        group, subgroup: of the concept, as the Unicode names them.
        artist: who drew it.
    """

    image: bytes
    name: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    artist: str


class Kind(NamedTuple):
    """A class of things that people have a word for.

    Attributes:
        one: with its article, such as "an animal".
        several: such as "animals".
        subgroups: of the Unicode, that it consists of.
        near: subgroups whose things some would count and some not; they stand for neither.
    """

    one: str
    several: str
    subgroups: tuple[str, ...]
    near: tuple[str, ...] = ()


_FOODS = ("food-fruit", "food-vegetable", "food-prepared", "food-asian", "food-sweet")
_ANIMALS = ("animal-mammal", "animal-bird", "animal-reptile", "animal-marine", "animal-bug")
_FACES_OF_ANIMALS = ("cat-face", "monkey-face", "face-costume", "zodiac")
KINDS = (
    Kind("an animal", "animals", (*_ANIMALS, "animal-amphibian"), _FACES_OF_ANIMALS),
    Kind("a bird", "birds", ("animal-bird",)),
    Kind("a bug", "bugs", ("animal-bug",), ("zodiac",)),
    Kind("a plant", "plants", ("plant-flower", "plant-other"), ("food-fruit", "food-vegetable")),
    Kind("food", "food", _FOODS, ("dishware", "drink", "plant-other")),
    Kind("a fruit", "fruit", ("food-fruit",), ("food-vegetable",)),
    Kind("a drink", "drinks", ("drink",), ("dishware",)),
    Kind(
        "transport",
        "transport",
        ("transport-ground", "transport-air", "transport-water"),
        ("transport-sign", "place-other"),
    ),
    Kind(
        "a building",
        "buildings",
        ("place-building",),
        ("place-other", "place-religious", "place-geographic", "hotel"),
    ),
    Kind("sky or weather", "sky or weather", ("sky-weather",), ("place-other",)),
    Kind("clothing", "clothing", ("clothing",), ("sport",)),
    Kind("an instrument", "instruments", ("musical-instrument",), ("music", "sound")),
    Kind("a heart", "hearts", ("heart",), ("emotion", "face-affection")),
    Kind("a sport", "sports", ("sport",), ("person-sport", "person-activity", "game")),
    Kind("a tool", "tools", ("tool",), ("household", "science", "other-object")),
    Kind("a shape", "shapes", ("geometric",), ("other-symbol", "av-symbol", "heart")),
    Kind("a book or paper", "books or paper", ("book-paper",), ("office", "writing", "mail")),
)


def apart(kind: Kind) -> list[Kind]:
    """Returns the kinds that have nothing in common with one, so that a thing is of one of both."""
    taken = {*kind.subgroups, *kind.near}
    return [
        other
        for other in KINDS
        if not taken.intersection(other.subgroups)
        and not set(kind.subgroups).intersection(other.near)
    ]


class Dice(random.Random):
    """Random draws that are the same with every version of Python."""

    def pick(self, members: Sequence[T]) -> T:
        """Returns one of them."""
        return members[int(self.random() * len(members))]

    def deal(self, members: Sequence[T], count: int) -> list[T]:
        """Returns `count` different ones of them, in random order."""
        chosen: dict[int, None] = {}
        while len(chosen) < count:
            chosen[int(self.random() * len(members))] = None
        return [members[number] for number in chosen]


class Pool:
    """Drawings, found by what they show.

    Args:
        drawings: in an order that never changes.
    """

    def __init__(self, drawings: Sequence[Drawing]) -> None:
        self.drawings = list(drawings)
        self.by_name = _by("name", drawings)
        self.by_group = _by("group", drawings)
        self.by_subgroup = _by("subgroup", drawings)
        self.by_kind = {
            kind: [drawing for drawing in drawings if drawing.subgroup in kind.subgroups]
            for kind in KINDS
        }

    def of_name(self, name: str, dice: Dice) -> Drawing:
        """Returns a drawing of a thing."""
        return dice.pick(self.by_name[name])

    def of_kind(self, kind: Kind, dice: Dice) -> Drawing:
        """Returns a drawing of something of a kind."""
        return dice.pick(self.by_kind[kind])

    def of_other(self, kind: Kind, dice: Dice) -> Drawing:
        """Returns a drawing of something that is clearly not of a kind."""
        while (drawing := dice.pick(self.drawings)).subgroup in kind.subgroups + kind.near:
            pass
        return drawing


def _by(field: str, drawings: Sequence[Drawing]) -> dict[str, list[Drawing]]:
    found: dict[str, list[Drawing]] = collections.defaultdict(list)
    for drawing in drawings:
        found[getattr(drawing, field)].append(drawing)
    return dict(found)


class Collection(NamedTuple):
    """All drawings, and what can be asked about them.

    Attributes:
        pools: of each split.
        other_hands: drawings by the artists of `train` that are not in it.
        names: short ones of one thing each, that all artists drew, in the order of the alphabet.
        neighbours: name -> the others of these in its subgroup, of these.
        also: name -> keywords of it that are names of others in its subgroup, of these.
        groups, subgroups: that every split has drawings of, in the order of the alphabet.
    """

    pools: Mapping[str, Pool]
    other_hands: Pool
    names: Sequence[str]
    neighbours: Mapping[str, Sequence[str]]
    also: Mapping[str, Sequence[str]]
    groups: Sequence[str]
    subgroups: Sequence[str]

    def other_name(self, name: str, dice: Dice) -> str:
        """Returns another thing, half the time of the same subgroup where there is one."""
        neighbours = self.neighbours[name]
        if neighbours and dice.random() < 0.5:
            return dice.pick(neighbours)
        return self.other_names((name,), 1, dice)[0]

    def other_names(self, names: Sequence[str], count: int, dice: Dice) -> list[str]:
        """Returns different things that are none of some names."""
        dealt = dice.deal(self.names, count + len(names))
        return [name for name in dealt if name not in names][:count]


@functools.cache
def collection() -> Collection:
    """Reads the embedded drawings, once a process."""
    places = _places()
    seen: set[bytes] = set()
    artists: dict[str, set[str]] = collections.defaultdict(set)
    drawn: dict[str, list[Drawing]] = {split: [] for split in (*SPLITS, "other_hands")}
    for stored in ("train", emoji.UNSEEN_ARTIST):
        for record in open_source(f"{EMBEDDED_PREFIX}emoji", stored):
            artist = record.image_id.partition("/")[0]
            name = record.texts[0]
            artists[name].add(artist)
            drawing = Drawing(record.image, name, record.keywords, *places[name], artist)
            if record.image not in seen:  # some artists repeat themselves or others
                drawn[_split_of(record, artist)].append(drawing)
                seen.add(record.image)
    known = {drawing.name for drawing in drawn["train"]}
    pools = {
        split: Pool([drawing for drawing in drawings if drawing.name in known])
        for split, drawings in drawn.items()
    }
    other_hands = pools.pop("other_hands")
    names = _names(pools, artists)
    one = {name: pools["train"].by_name[name][0] for name in names}
    neighbours = {
        name: [o for o in names if o != name and one[o].subgroup == one[name].subgroup]
        for name in names
    }
    return Collection(
        pools,
        other_hands,
        names,
        neighbours,
        {name: [o for o in neighbours[name] if o in one[name].keywords] for name in names},
        sorted(set.intersection(*(set(pool.by_group) for pool in pools.values()))),
        _subgroups(pools),
    )


def _places() -> dict[str, tuple[str, str]]:
    """Name -> group and subgroup."""
    groups = json.loads((EMBEDDED["emoji"] / emoji.GROUPS).read_text(encoding="utf-8"))
    return {
        name: (group, subgroup)
        for group, subgroups in groups.items()
        for subgroup, names in subgroups.items()
        for name in names
    }


def _split_of(record: Any, artist: str) -> str:
    if artist == emoji.TEST_ARTIST:
        return emoji.UNSEEN_ARTIST
    if artist == VALIDATION_ARTIST:
        return "validation"
    kept = zlib.crc32(record.image_id.encode()) % KEPT_SHARE == 0
    return "other_hands" if kept else "train"


def _names(pools: Mapping[str, Pool], artists: Mapping[str, set[str]]) -> list[str]:
    shared = set.intersection(*(set(pool.by_name) for pool in pools.values()))
    everybody = set.union(*artists.values())
    return sorted(
        name
        for name in shared
        if artists[name] == everybody
        and pools["train"].by_name[name][0].group in _NAMED_GROUPS
        and (not name.endswith("s") or name.endswith(_ENDINGS_OF_ONE))
        and len(name) <= _LONGEST_NAME
        and all(letter.isalpha() or letter == " " for letter in name)
    )


def _subgroups(pools: Mapping[str, Pool]) -> list[str]:
    return sorted(
        subgroup
        for subgroup in pools["train"].by_subgroup
        if all(
            len(pool.by_subgroup.get(subgroup, ())) >= _FEWEST_DRAWINGS for pool in pools.values()
        )
    )
