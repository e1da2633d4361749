"""Statements made of the embedded drawings: true where they say so, and not to be guessed."""

import collections
import pickle
import re

import numpy as np
import pytest

from vlmo_jax.datasets import images
from vlmo_jax.datasets.made import pictures, statements
from vlmo_jax.datasets.made.drawings import KINDS, SPLITS, Dice, collection
from vlmo_jax.datasets.sources import open_records
from vlmo_jax.input.text.tokenizer import load_tokenizer

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5}


@pytest.fixture(scope="module")
def stated():
    """Split -> statement, label and group of each record."""
    found = {}
    for split in SPLITS:
        source = open_records("emoji_statements", split)
        records = (source.without_images(index) for index in range(min(len(source), 32_000)))
        found[split] = [(r.statement, int(r.label), r.group_id) for r in records]
    return found


def test_who_reads_only_the_statement_scores_near_chance(stated):
    seen = collections.defaultdict(collections.Counter)
    for statement, label, _ in stated["train"]:
        seen[statement][label] += 1
    for split in ("validation", "unseen_artist"):
        guesses = [
            seen[text].most_common(1)[0][0] if text in seen else 1 for text, *_ in stated[split]
        ]
        right = np.mean(
            [guess == row[1] for guess, row in zip(guesses, stated[split], strict=True)]
        )
        assert abs(right - 0.5) < 0.005


def test_each_statement_is_true_as_often_as_false(stated):
    for rows in stated.values():
        groups = collections.defaultdict(list)
        for statement, label, group in rows:
            groups[group].append((statement, label))
        for members in groups.values():
            assert len({statement for statement, _ in members}) == 1
            assert sorted(label for _, label in members) == [0, 0, 1, 1]


def drawn(split, number):
    """Statement, and the drawings of the pictures left and right."""
    things = collection()
    pool = things.pools[split]
    by_image = {d.image: d for d in (*things.other_hands.drawings, *pool.drawings)}
    round_, which = divmod(number, len(statements.TEMPLATES))
    block, turn = divmod(round_, statements.TURNS)
    dice = [Dice(f"statement {split} {which} {block}{end}") for end in ("", f" {turn}")]
    one = statements.TEMPLATES[which](statements.Draw(things, split, pool, *dice, turn))
    sides = (
        [by_image[image] for image in side.drawings.values()] for side in (one.left, one.right)
    )
    return one.statement, *sides


def is_so(statement, left, right):
    """Whether a statement is true of what is drawn."""
    kinds = {word: kind for kind in KINDS for word in (kind.one, kind.several)}

    def count(word, drawings):
        return sum(drawing.subgroup in kinds[word].subgroups for drawing in drawings)

    if match := re.fullmatch("both are (.*)", statement):
        if match[1] == "of the same kind":
            return left[0].subgroup == right[0].subgroup
        return count(match[1], left) == count(match[1], right) == 1
    if match := re.fullmatch("only one of them is (.*)", statement):
        return count(match[1], left + right) == 1
    if match := re.fullmatch("(.*) on the left, (.*) on the right", statement):
        return count(match[1], left) == count(match[2], right) == 1
    if statement == "the same thing by two artists":
        assert left[0].artist != right[0].artist
        return left[0].name == right[0].name
    if match := re.fullmatch("there are more (.*) on the (left|right)", statement):
        more, fewer = (left, right) if match[2] == "left" else (right, left)
        return count(match[1], more) > count(match[1], fewer)
    if match := re.fullmatch(r"there are (\w+) (.*) in all", statement):
        return count(match[2], left + right) == NUMBERS[match[1]]
    name = re.fullmatch("one of them is the (.*)", statement)[1]
    return name in {drawing.name for drawing in left + right}


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_stated_is_drawn(split):
    source = open_records("emoji_statements", split)
    for number in range(1600):
        statement, left, right = drawn(split, number)
        record = source.without_images(number)
        assert record.statement == statement
        assert is_so(statement, left, right) == bool(record.label), (split, number)


@pytest.mark.parametrize("split", ["validation", "unseen_artist"])
def test_an_evaluation_compares_its_artist_with_drawings_that_train_has_not(split):
    things = collection()
    trained = {drawing.image for drawing in things.pools["train"].drawings}
    artists = {drawing.artist for drawing in things.pools[split].drawings}
    for number in range(3, 1600, len(statements.TEMPLATES)):
        statement, left, right = drawn(split, number)
        assert statement == "the same thing by two artists"
        assert not {left[0].image, right[0].image} & trained
        assert len({left[0].artist, right[0].artist} & artists) == 1


def test_a_record_depends_on_its_number_alone():
    source = open_records("emoji_statements", "validation")
    first = source[1234]
    collection.cache_clear()
    again = pickle.loads(pickle.dumps(source))[1234]
    assert again.label == first.label and again.label.dtype == np.int32
    assert (again.image_0, again.image_1, again.statement) == (
        first.image_0,
        first.image_1,
        first.statement,
    )
    assert first.statement_id == "validation/1234"


def test_pictures_decode():
    source = open_records("emoji_statements", "unseen_artist")
    for index in range(0, 160):
        record = source[index]
        for data in (record.image_0, record.image_1):
            assert images.decode_image(data).size in {(64, 64), (128, 128)}
    assert pictures.CELL == 64


def test_statements_fit_into_16_tokens(stated):
    tokenizer = load_tokenizer("emoji")
    longest = max(len(tokenizer.encode(text).ids) for rows in stated.values() for text, *_ in rows)
    assert longest + 2 <= 16
