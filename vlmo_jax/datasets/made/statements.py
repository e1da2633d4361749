"""Statements about two pictures of the embedded drawings: the data set "emoji_statements".

Four records after each other in their template have the same statement, of which two are true and
two false, so that who does not see the pictures cannot know better than chance; they are one group
for the measure of consistency. "left" and "right" are told apart, so pictures must not be mirrored
(config.data.flip=False).

Where two hands are compared, those of `train` are any two of its artists; in an evaluation one is
the artist of its split, the other an artist of `train` with a drawing that `train` does not have.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vlmo_jax.datasets.made.drawings import (
    KINDS,
    Collection,
    Dice,
    Drawing,
    Kind,
    Pool,
    apart,
    collection,
)
from vlmo_jax.datasets.made.pictures import ALONE, PLACES, Picture
from vlmo_jax.datasets.made.source import MadeDataset
from vlmo_jax.datasets.records import STATEMENTS, StatementRecord
from vlmo_jax.datasets.sources import EMBEDDED_MADE

TURNS = 4  # records of a statement: true twice, then false twice
_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


class Stated(NamedTuple):
    """A statement and the pictures, left and right, that it is about."""

    statement: str
    left: Picture
    right: Picture


class Draw(NamedTuple):
    """What a statement is made from.

    Attributes:
        things: that can be spoken of.
        split: of drawings.SPLITS.
        pool: drawings of the split.
        filling: dice that fall alike for all turns of a statement: what it says.
        dice: of this record alone: what it shows.
        turn: 0 to 3; the first two are true.
    """

    things: Collection
    split: str
    pool: Pool
    filling: Dice
    dice: Dice
    turn: int

    @property
    def true(self) -> bool:
        """Whether the statement is to be true."""
        return is_true(self.turn)

    def alone(self, one: Drawing, other: Drawing) -> tuple[Picture, Picture]:
        """Pictures of two drawings, left and right as the turn has it."""
        return self.turned(Picture({ALONE: one.image}), Picture({ALONE: other.image}))

    def turned(self, one: Picture, other: Picture) -> tuple[Picture, Picture]:
        """Two pictures, left and right as the turn has it."""
        return (one, other) if self.turn % 2 == 0 else (other, one)

    def counted(self, kind: Kind, number: int) -> Picture:
        """A sheet of four drawings, so many of a kind."""
        drawings = [self.pool.of_kind(kind, self.dice) for _ in range(number)]
        while len(drawings) < len(PLACES):
            drawings.append(self.pool.of_other(kind, self.dice))
        places = self.dice.deal(PLACES, len(drawings))
        return Picture(
            {place: drawing.image for place, drawing in zip(places, drawings, strict=True)}
        )


def is_true(turn: int) -> bool:
    """Whether a statement is true in a turn of 0 to 3."""
    return turn < TURNS // 2


def _both(draw: Draw) -> Stated:
    kind = draw.filling.pick(KINDS)
    other = draw.pool.of_kind(kind, draw.dice) if draw.true else draw.pool.of_other(kind, draw.dice)
    return Stated(
        f"both are {kind.several}", *draw.alone(draw.pool.of_kind(kind, draw.dice), other)
    )


def _only_one(draw: Draw) -> Stated:
    kind = draw.filling.pick(KINDS)
    if draw.true:
        shown = draw.pool.of_kind(kind, draw.dice), draw.pool.of_other(kind, draw.dice)
    elif draw.turn == 2:
        shown = draw.pool.of_kind(kind, draw.dice), draw.pool.of_kind(kind, draw.dice)
    else:
        shown = draw.pool.of_other(kind, draw.dice), draw.pool.of_other(kind, draw.dice)
    return Stated(f"only one of them is {kind.one}", *draw.alone(*shown))


def _left_and_right(draw: Draw) -> Stated:
    left = draw.filling.pick(KINDS)
    right = draw.filling.pick(apart(left))
    shown = [left, right]
    if draw.turn == 2:
        shown = [right, left]
    elif draw.turn == 3:
        shown = [left, left] if draw.dice.random() < 0.5 else [right, right]
    one, other = (Picture({ALONE: draw.pool.of_kind(kind, draw.dice).image}) for kind in shown)
    return Stated(f"{left.one} on the left, {right.one} on the right", one, other)


def _same_thing(draw: Draw) -> Stated:
    one, other = _two_hands(draw)
    return Stated("the same thing by two artists", *draw.alone(one, other))


def _two_hands(draw: Draw) -> tuple[Drawing, Drawing]:
    """Drawings by two artists, of one thing or two as the turn has it."""
    second = draw.pool if draw.split == "train" else draw.things.other_hands
    while True:
        other = draw.dice.pick(second.drawings)
        name = other.name
        if not draw.true:
            alike = draw.dice.random() < 0.5
            within = draw.pool.by_subgroup.get(other.subgroup, []) if alike else draw.pool.drawings
            choice = [draw.dice.pick(within)] if within else []
            choice = [one for one in choice if one.name != name]
        else:
            choice = draw.pool.by_name.get(name, [])
        choice = [one for one in choice if one.artist != other.artist]
        if choice:
            return draw.dice.pick(choice), other


def _same_kind(draw: Draw) -> Stated:
    one, another = draw.dice.deal(draw.things.subgroups, 2)
    first = draw.dice.pick(draw.pool.by_subgroup[one])
    second = draw.dice.pick(draw.pool.by_subgroup[one if draw.true else another])
    return Stated("both are of the same kind", *draw.alone(first, second))


def _more(draw: Draw) -> Stated:
    kind, side = draw.filling.pick(KINDS), draw.filling.pick(("left", "right"))
    fewer, more = sorted(draw.dice.deal(range(len(PLACES) + 1), 2))
    counts = (more, fewer) if draw.true == (side == "left") else (fewer, more)
    left, right = (draw.counted(kind, number) for number in counts)
    return Stated(f"there are more {kind.several} on the {side}", left, right)


def _in_all(draw: Draw) -> Stated:
    kind, number = draw.filling.pick(KINDS), draw.filling.pick(list(_NUMBERS))
    total = (
        number if draw.true else draw.dice.pick((number - 2, number - 1, number + 1, number + 2))
    )
    places = len(PLACES)
    ways = [left for left in range(places + 1) if 0 <= total - left <= places]
    left = draw.dice.pick(ways)
    shown = draw.counted(kind, left), draw.counted(kind, total - left)
    return Stated(f"there are {_NUMBERS[number]} {kind.several} in all", *shown)


def _one_is(draw: Draw) -> Stated:
    name = draw.filling.pick(draw.things.names)
    shown = name if draw.true else draw.things.other_name(name, draw.dice)
    other = draw.things.other_names((name, shown), 1, draw.dice)[0]
    one, another = (draw.pool.of_name(thing, draw.dice) for thing in (shown, other))
    return Stated(f"one of them is the {name}", *draw.alone(one, another))


TEMPLATES: tuple[Callable[[Draw], Stated], ...] = (
    _both,
    _only_one,
    _left_and_right,
    _same_thing,
    _same_kind,
    _more,
    _in_all,
    _one_is,
)


def make_record(split: str, number: int, *, pictured: bool = True) -> StatementRecord:
    """Makes a record.

    Args:
        split: of drawings.SPLITS.
        number: of the record in it.
        pictured: with its images.

    Returns:
        The statement and its pictures, the same for the same arguments.
    """
    things = collection()
    round_, which = divmod(number, len(TEMPLATES))
    block, turn = divmod(round_, TURNS)
    filling = Dice(f"statement {split} {which} {block}")
    dice = Dice(f"statement {split} {which} {block} {turn}")
    stated = TEMPLATES[which](Draw(things, split, things.pools[split], filling, dice, turn))
    return StatementRecord(
        image_0=stated.left.encode() if pictured else b"",
        image_1=stated.right.encode() if pictured else b"",
        statement=stated.statement,
        label=np.asarray(int(is_true(turn)), np.int32),
        statement_id=f"{split}/{number}",
        group_id=f"{split}/{which}/{block}",
    )


DATASET = MadeDataset(
    EMBEDDED_MADE["emoji_statements"],
    STATEMENTS,
    {
        split: len(TEMPLATES) * TURNS * blocks
        for split, blocks in (("train", 2000), ("validation", 125), ("unseen_artist", 125))
    },
    make_record,
)
