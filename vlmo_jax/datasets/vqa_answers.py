"""Answers of VQAv2: their normal forms, the vocabulary, and soft targets.

Both normal forms take the official code at its word, mistakes included, because published numbers
hang on them: see `without_marks` and CONTRACTIONS.
"""

import collections
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# Meant to keep a full stop between digits; as written, one that a digit follows.
_FULL_STOP = re.compile(r"\.(?!\d)")
_MOST_FULL_STOPS = 32  # a flag that was given in the place of a count
_ARTICLES = {"a", "an", "the"}
_NUMBERS = dict(
    none="0",
    zero="0",
    one="1",
    two="2",
    three="3",
    four="4",
    five="5",
    six="6",
    seven="7",
    eight="8",
    nine="9",
    ten="10",
)
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am mightn't
mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've
should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
you've
"""


def _misspellings(word: str) -> list[str]:
    """A word without one of its apostrophes, for each of them."""
    places = [place for place, letter in enumerate(word) if letter == "'"]
    return [word[:place] + word[place + 1 :] for place in places]


# Misspelt -> spelt. That of "somebody'd" runs the wrong way, and those with a capital can never be
# met, since words are lower case by then.
CONTRACTIONS = {
    misspelt: word for word in _CONTRACTED.split() for misspelt in _misspellings(word)
} | {"somebody'd": "somebodyd"}


def without_marks(text: str) -> str:
    """Takes punctuation out of an answer.

    A mark that stands beside a blank anywhere in the text goes, and so do all where a comma stands
    between digits; other marks become blanks. Of the first 32 full stops, those that no digit
    follows go.

    Args:
        text: an answer.

    Source: VQA evaluation code, its slips included.
    """
    found = text
    comma = _COMMA_IN_NUMBER.search(text) is not None
    for mark in _MARKS:
        if comma or f"{mark} " in text or f" {mark}" in text:
            found = found.replace(mark, "")
        else:
            found = found.replace(mark, " ")
    return _FULL_STOP.sub("", found, count=_MOST_FULL_STOPS)


def normal_words(text: str) -> str:
    """Lower case, numbers up to ten in digits, no articles, contractions with their apostrophes.

    Args:
        text: an answer without marks.
    """
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    kept = [word for word in words if word not in _ARTICLES]
    return " ".join(CONTRACTIONS.get(word, word) for word in kept)


def normal_form(text: str) -> str:
    """The form in which answers are compared with each other."""
    return normal_words(without_marks(text))


def vocabulary_form(text: str) -> str:
    """The form in which answers stand in the vocabulary."""
    return normal_form(text).replace(",", "")


class Annotation(NamedTuple):
    """What people answered to a question.

    Attributes:
        question_id: of the question.
        image_id: of its image.
        multiple_choice_answer: the most frequent answer, as the file gives it.
        answers: ten, as they were typed.
    """

    question_id: int
    image_id: int
    multiple_choice_answer: str
    answers: tuple[str, ...]


def build_vocabulary(annotations: Iterable[Annotation], min_count: int = 9) -> list[str]:
    """The answers that a model chooses from, by id.

    Args:
        annotations: of train2014, then of val2014, in the order of the files: ids follow it.
        min_count: how often an answer must be the most frequent one of a question. 9 gives the
            3,129 answers of published models.

    Source: VLMo, the same as ViLT's and BEiT-3's.
    """
    counts = collections.Counter(vocabulary_form(a.multiple_choice_answer) for a in annotations)
    return [answer for answer, count in counts.items() if count >= min_count]


def soft_targets(answers: Sequence[str], ids: Mapping[str, int]) -> dict[int, float]:
    """What a model is to give for a question.

    Args:
        answers: of ten people, in the form in which they are looked up. Published models look up
            what was typed; `vocabulary_form` of it finds more, and is another training.
        ids: answer of the vocabulary -> id.

    Returns:
        id -> score, in the order in which the answers appear; empty where none is known.
    """
    counts = collections.Counter(ids[answer] for answer in answers if answer in ids)
    return {answer: answer_score(count) for answer, count in counts.items()}


def answer_score(count: int) -> float:
    """The score of an answer that `count` of ten people gave: 0.3 each, at most 1."""
    return {0: 0.0, 1: 0.3, 2: 0.6, 3: 0.9}.get(count, 1.0)
