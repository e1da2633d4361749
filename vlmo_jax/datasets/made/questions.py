"""Questions about the embedded drawings: the data set "emoji_questions".

A record is one picture and one question. Record i of a split is of template i modulo their number;
a question is asked in turns of all its answers, or of some that are drawn evenly, so that who does
not see the picture cannot know better than chance. Ten people answer alike, save where a keyword of
a thing is the name of another of its subgroup ("poodle": "dog"): three of ten give that.

"left" and "right" are asked about, so pictures must not be mirrored (config.data.flip=False).
`python -m vlmo_jax.datasets.made.questions` prints the answers that a model chooses from.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vlmo_jax.datasets.made.drawings import (
    KINDS,
    Collection,
    Dice,
    Drawing,
    Pool,
    apart,
    collection,
)
from vlmo_jax.datasets.made.pictures import ALONE, PAPERS, PLACES, WHITE, Picture
from vlmo_jax.datasets.made.source import MadeDataset
from vlmo_jax.datasets.records import QUESTIONS, QuestionsRecord
from vlmo_jax.datasets.sources import EMBEDDED_MADE
from vlmo_jax.datasets.vqa_answers import Annotation, build_vocabulary, vocabulary_form

PEOPLE = 10
_SECOND_ANSWERS = 3  # of ten, where a thing has a second name
_PAPER_SHARE = 0.25  # of pictures on coloured paper


class Asked(NamedTuple):
    """A question.

    Attributes:
        question: the text.
        answer: of most people.
        picture: what it is about.
        second: another answer that people give, or "".
    """

    question: str
    answer: str
    picture: Picture
    second: str = ""


class Draw(NamedTuple):
    """What a question is made from.

    Attributes:
        things: that can be asked about.
        pool: drawings of the split.
        block: number of the question among those of its template.
        filling: dice that fall alike for all turns of a question: what it asks.
        dice: of this record alone: what it shows.
        turn: which of the answers is due, from 0.
    """

    things: Collection
    pool: Pool
    block: int
    filling: Dice
    dice: Dice
    turn: int

    def paper(self) -> str:
        """A paper, mostly white."""
        coloured = self.dice.random() < _PAPER_SHARE
        return self.dice.pick(list(PAPERS)) if coloured else WHITE

    def single(self, drawing: Drawing) -> Picture:
        """A picture of one drawing."""
        return Picture({ALONE: drawing.image}, self.paper())

    def scattered(self, drawings: list[Drawing]) -> Picture:
        """A picture of up to four drawings at random places."""
        places = self.dice.deal(PLACES, len(drawings))
        shown = {place: drawing.image for place, drawing in zip(places, drawings, strict=True)}
        return Picture(shown, self.paper())


class Template(NamedTuple):
    """One way to ask.

    Attributes:
        question_type: the words that it begins with.
        answer_type: "yes/no", "number" or "other".
        turns: function of what can be asked about that gives how many records a question has, one
            for each answer.
        ask: makes a question.
    """

    question_type: str
    answer_type: str
    turns: Callable[[Collection], int]
    ask: Callable[[Draw], Asked]


def _two(things: Collection) -> int:
    return 2


def _yes_or_no(draw: Draw) -> str:
    return ("yes", "no")[draw.turn]


def _what(draw: Draw) -> Asked:
    name = draw.things.names[draw.turn]
    also = draw.things.also[name]
    second = vocabulary_form(draw.dice.pick(also)) if also else ""
    picture = draw.single(draw.pool.of_name(name, draw.dice))
    return Asked("what is this?", vocabulary_form(name), picture, second)


def _which_group(draw: Draw) -> Asked:
    group = draw.things.groups[draw.turn]
    picture = draw.single(draw.dice.pick(draw.pool.by_group[group]))
    return Asked("which group does this belong to?", group.replace("-", " & "), picture)


def _which_subgroup(draw: Draw) -> Asked:
    subgroup = draw.things.subgroups[draw.turn]
    picture = draw.single(draw.dice.pick(draw.pool.by_subgroup[subgroup]))
    return Asked("what kind of thing is this?", subgroup.replace("-", " "), picture)


def _is_of_kind(draw: Draw) -> Asked:
    kind = draw.filling.pick(KINDS)
    if draw.turn == 0:
        drawing = draw.pool.of_kind(kind, draw.dice)
    else:
        drawing = draw.pool.of_other(kind, draw.dice)
    return Asked(f"is this {kind.one}?", _yes_or_no(draw), draw.single(drawing))


def _is_called(draw: Draw) -> Asked:
    name = draw.filling.pick(draw.things.names)
    shown = name if draw.turn == 0 else draw.things.other_name(name, draw.dice)
    picture = draw.single(draw.pool.of_name(shown, draw.dice))
    return Asked(f"is this the {name}?", _yes_or_no(draw), picture)


def _colour(draw: Draw) -> Asked:
    paper = list(PAPERS)[draw.turn]
    drawing = draw.dice.pick(draw.pool.drawings)
    return Asked("what colour is the paper?", paper, Picture({ALONE: drawing.image}, paper))


def _is_there(draw: Draw) -> Asked:
    kind = draw.filling.pick(KINDS)
    drawings = [draw.pool.of_other(kind, draw.dice) for _ in range(draw.dice.pick((2, 3, 4)))]
    if draw.turn == 0:
        drawings[0] = draw.pool.of_kind(kind, draw.dice)
    return Asked(f"is there {kind.one} in it?", _yes_or_no(draw), draw.scattered(drawings))


def _how_many_of_kind(draw: Draw) -> Asked:
    kind = draw.filling.pick(KINDS)
    number, places = draw.turn, len(PLACES)
    drawings = [draw.pool.of_kind(kind, draw.dice) for _ in range(number)]
    drawings += [draw.pool.of_other(kind, draw.dice) for _ in range(places - number)]
    question = f"how many of them are {kind.several}?"
    return Asked(question, str(number), draw.scattered(drawings))


def _how_many(draw: Draw) -> Asked:
    drawings = [draw.dice.pick(draw.pool.drawings) for _ in range(draw.turn + 1)]
    return Asked("how many things are there?", str(len(drawings)), draw.scattered(drawings))


_CORNERS = {"top left": (0, 0), "top right": (0, 1), "bottom left": (1, 0), "bottom right": (1, 1)}


def _corner_group(draw: Draw) -> Asked:
    words = draw.filling.pick(list(_CORNERS))
    group = draw.things.groups[draw.turn]
    shown = {place: draw.dice.pick(draw.pool.drawings).image for place in PLACES}
    shown[_CORNERS[words]] = draw.dice.pick(draw.pool.by_group[group]).image
    question = f"which group does the {words} one belong to?"
    return Asked(question, group.replace("-", " & "), Picture(shown, draw.paper()))


def _is_corner(draw: Draw) -> Asked:
    kind, words = draw.filling.pick(KINDS), draw.filling.pick(list(_CORNERS))
    there = _CORNERS[words]
    if draw.turn == 1:  # it is somewhere else
        there = draw.dice.pick([place for place in PLACES if place != _CORNERS[words]])
    shown = {place: draw.pool.of_other(kind, draw.dice).image for place in PLACES}
    shown[there] = draw.pool.of_kind(kind, draw.dice).image
    question = f"is the {words} one {kind.one}?"
    return Asked(question, _yes_or_no(draw), Picture(shown, draw.paper()))


# Words of a place, and where it is seen from the other thing: rows down, columns to the right.
_SIDES = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}

_BESIDE = [(one, words, other) for one in KINDS for words in _SIDES for other in apart(one)]
_STRIDE = 389  # a prime number that does not divide how many there are


def _is_beside(draw: Draw) -> Asked:
    # In order, with strides that meet all of them: chance would leave some out of `train`.
    one, words, other = _BESIDE[draw.block * _STRIDE % len(_BESIDE)]
    down, right = _SIDES[words]
    starts = [(row, column) for row, column in PLACES if (row + down, column + right) in PLACES]
    start = draw.dice.pick(starts)
    kinds = (one, other) if draw.turn == 0 else (other, one)
    places = ((start[0] + down, start[1] + right), start)
    shown = {
        place: draw.pool.of_kind(kind, draw.dice).image
        for place, kind in zip(places, kinds, strict=True)
    }
    question = f"is {one.one} {words} {other.one}?"
    return Asked(question, _yes_or_no(draw), Picture(shown, draw.paper()))


TEMPLATES = (
    Template("what is", "other", lambda things: len(things.names), _what),
    Template("which group", "other", lambda things: len(things.groups), _which_group),
    Template("what kind", "other", lambda things: len(things.subgroups), _which_subgroup),
    Template("is this", "yes/no", _two, _is_of_kind),
    Template("is this the", "yes/no", _two, _is_called),
    Template("what colour", "other", lambda things: len(PAPERS), _colour),
    Template("is there", "yes/no", _two, _is_there),
    Template("how many of", "number", lambda things: len(PLACES) + 1, _how_many_of_kind),
    Template("how many", "number", lambda things: len(PLACES), _how_many),
    Template("which group is there", "other", lambda things: len(things.groups), _corner_group),
    Template("is the one there", "yes/no", _two, _is_corner),
    Template("is beside", "yes/no", _two, _is_beside),
)


def ask(split: str, number: int) -> tuple[Template, Asked]:
    """Makes a question.

    Args:
        split: of drawings.SPLITS.
        number: of the record in it.

    Returns:
        How and what is asked, the same for the same arguments.
    """
    things = collection()
    round_, which = divmod(number, len(TEMPLATES))
    template = TEMPLATES[which]
    block, turn = divmod(round_, template.turns(things))
    filling = Dice(f"question {split} {which} {block}")
    dice = Dice(f"question {split} {which} {block} {turn}")
    return template, template.ask(Draw(things, things.pools[split], block, filling, dice, turn))


def make_record(split: str, number: int, *, pictured: bool = True) -> QuestionsRecord:
    """Makes a record.

    Args:
        split, number: as of `ask`.
        pictured: with its image; without one it takes a tenth of the time.
    """
    template, asked = ask(split, number)
    name = f"{split}/{number}"
    seconds = _SECOND_ANSWERS if asked.second else 0
    answers = [asked.answer] * (PEOPLE - seconds) + [asked.second] * seconds
    return QuestionsRecord(
        image=asked.picture.encode() if pictured else b"",
        image_id=name,
        questions=(asked.question,),
        question_ids=(name,),
        answers=tuple(answers),
        num_answers=np.asarray([PEOPLE], np.int32),
        main_answers=(asked.answer,),
        answer_types=(template.answer_type,),
        question_types=(template.question_type,),
    )


def vocabulary() -> list[str]:
    """The answers that a model chooses from, by id: those of `train`, by the official rule."""
    records = (make_record("train", n, pictured=False) for n in range(DATASET.sizes["train"]))
    return build_vocabulary(Annotation(0, 0, one.main_answers[0], one.answers) for one in records)


DATASET = MadeDataset(
    EMBEDDED_MADE["emoji_questions"],
    QUESTIONS,
    {
        split: len(TEMPLATES) * rounds
        for split, rounds in (("train", 6000), ("validation", 400), ("unseen_artist", 400))
    },
    make_record,
)


if __name__ == "__main__":
    print(*vocabulary(), sep="\n")
