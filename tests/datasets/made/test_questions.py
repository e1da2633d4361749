"""Questions made of the embedded drawings: what they ask is so, and cannot be guessed."""

import collections
import hashlib
import pickle
import re

import pytest

from vlmo_jax.datasets import images
from vlmo_jax.datasets.identity import identify
from vlmo_jax.datasets.made import pictures, questions
from vlmo_jax.datasets.made.drawings import KINDS, SPLITS, collection
from vlmo_jax.datasets.sources import EMBEDDED_MADE, open_records
from vlmo_jax.datasets.vqa_answers import vocabulary_form
from vlmo_jax.input.text.tokenizer import load_tokenizer

CORNERS = {"top left": (0, 0), "top right": (0, 1), "bottom left": (1, 0), "bottom right": (1, 1)}
STEPS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}


@pytest.fixture(scope="module")
def asked():
    """Split -> question, answer and template of each record."""
    found = {}
    for split in SPLITS:
        source = open_records("emoji_questions", split)
        records = (source.without_images(index) for index in range(len(source)))
        found[split] = [(r.questions[0], r.main_answers[0], r.question_types[0]) for r in records]
    return found


def by_question(rows):
    answers = collections.defaultdict(collections.Counter)
    for question, answer, _ in rows:
        answers[question][answer] += 1
    return answers


def test_who_reads_only_the_question_scores_near_chance(asked):
    things = collection()
    fixed = [template.turns(things) for template in questions.TEMPLATES]
    chance = sum(1 / turns for turns in fixed) / len(fixed)
    assert 0.27 < chance < 0.28
    guesses = {q: count.most_common(1)[0][0] for q, count in by_question(asked["train"]).items()}
    for split in ("validation", "unseen_artist"):
        right = sum(guesses.get(question, "yes") == answer for question, answer, _ in asked[split])
        assert abs(right / len(asked[split]) - chance) < 0.01


def test_the_answers_of_each_question_come_equally_often(asked):
    for rows in asked.values():
        closed = [row for row in rows if row[1] in ("yes", "no")]
        for count in by_question(closed).values():
            assert abs(count["yes"] - count["no"]) <= 1
        for question, turns in (
            ("how many things are there?", 4),
            ("what colour is the paper?", 8),
        ):
            count = by_question(rows)[question]
            assert len(count) == turns and max(count.values()) - min(count.values()) <= 1
        number = [row for row in rows if row[2] == "how many of"]
        for count in by_question(number).values():
            assert set(count) == set("01234") and max(count.values()) - min(count.values()) <= 1


def test_all_that_an_evaluation_asks_and_answers_is_in_train(asked):
    known = set(questions.vocabulary())
    texts = {question for question, _, _ in asked["train"]}
    for split in ("validation", "unseen_artist"):
        assert {answer for _, answer, _ in asked[split]} <= known
        texts_asked = {question for question, _, _ in asked[split]}
        assert texts_asked <= texts


def test_no_drawing_is_in_two_splits():
    things = collection()
    artists = {
        split: {drawing.artist for drawing in pool.drawings} for split, pool in things.pools.items()
    }
    assert artists["validation"] == {"noto-blob"} and artists["unseen_artist"] == {"twemoji"}
    assert len(artists["train"]) == 5 and not artists["train"] & {"noto-blob", "twemoji"}
    pools = [*things.pools.values(), things.other_hands]
    drawn = [{drawing.image for drawing in pool.drawings} for pool in pools]
    assert len(set.union(*drawn)) == sum(map(len, drawn))
    assert [len(pool.drawings) for pool in pools] == [5864, 1120, 1752, 622]


def shown(split, number):
    """Question, answer, and place -> drawing of the picture."""
    by_image = {drawing.image: drawing for drawing in collection().pools[split].drawings}
    _, one = questions.ask(split, number)
    return one.question, one.answer, {p: by_image[i] for p, i in one.picture.drawings.items()}, one


def check_truth(question, answer, there, one):
    """Whether a question is answered by what is drawn."""
    names = [drawing.name for drawing in there.values()]
    if match := re.fullmatch(r"is this the (.*)\?", question):
        return (answer == "yes") == (names == [match[1]])
    if match := re.fullmatch(r"is there (.*) in it\?", question):
        return (answer == "yes") == any(map(kind_of(match[1]), there.values()))
    if match := re.fullmatch(r"how many of them are (.*)\?", question):
        kind = next(kind for kind in KINDS if kind.several == match[1])
        return int(answer) == sum(d.subgroup in kind.subgroups for d in there.values())
    if question == "how many things are there?":
        return int(answer) == len(there)
    if match := re.fullmatch(rf"which group does the ({'|'.join(CORNERS)}) one .*", question):
        return there[CORNERS[match[1]]].group == answer.replace(" & ", "-")
    if match := re.fullmatch(rf"is the ({'|'.join(CORNERS)}) one (.*)\?", question):
        assert sum(map(kind_of(match[2]), there.values())) == 1
        return (answer == "yes") == kind_of(match[2])(there[CORNERS[match[1]]])
    if match := re.fullmatch(rf"is (.*) ({'|'.join(STEPS)}) (.*)\?", question):
        (place,) = [place for place, drawing in there.items() if kind_of(match[3])(drawing)]
        (other,) = [place for place, drawing in there.items() if kind_of(match[1])(drawing)]
        step = (other[0] - place[0], other[1] - place[1])
        return (answer == "yes") == (step == STEPS[match[2]])
    (drawing,) = there.values()
    if question == "what is this?":
        return vocabulary_form(drawing.name) == answer
    if question == "which group does this belong to?":
        return drawing.group == answer.replace(" & ", "-")
    if question == "what kind of thing is this?":
        return drawing.subgroup == answer.replace(" ", "-")
    if question == "what colour is the paper?":
        return one.picture.paper == answer
    words = re.fullmatch(r"is this (.*)\?", question)[1]
    return (answer == "yes") == kind_of(words)(drawing)


def kind_of(words):
    """Whether a drawing is of the kind that is called so."""
    (subgroups,) = [kind.subgroups for kind in KINDS if kind.one == words]
    return lambda drawing: drawing.subgroup in subgroups


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_answered_is_drawn(split):
    for number in range(1500):
        assert check_truth(*shown(split, number)), (split, number)


def test_a_record_depends_on_its_number_alone():
    source = open_records("emoji_questions", "validation")
    first = source[4321]
    collection.cache_clear()
    copy = pickle.loads(pickle.dumps(source))
    assert copy[4321] == first and len(copy) == len(source) == 4800
    assert copy.without_images(4321).questions == first.questions
    assert identify(copy) == identify(source) != identify(open_records("emoji_questions", "train"))
    digest = hashlib.sha256()
    for index in range(0, 4800, 7):
        record = source.without_images(index)
        digest.update(f"{record.questions}{record.answers}{record.question_ids}".encode())
    assert digest.hexdigest()[:16] == "65dc30293ba1e662"


def test_pictures_decode_and_papers_have_their_colours():
    source = open_records("emoji_questions", "unseen_artist")
    sizes = collections.Counter(images.decode_image(source[i].image).size for i in range(240))
    assert set(sizes) == {(64, 64), (128, 128)}
    drawing = collection().pools["validation"].drawings[0].image
    for paper, colour in pictures.PAPERS.items():
        sheet = pictures.Picture({(0, 1): drawing}, paper).encode()
        image = images.decode_image(sheet)
        assert image.size == (128, 128) and image.getpixel((1, 127)) == colour
    alone = {pictures.ALONE: drawing}
    assert pictures.Picture(alone).encode() == drawing
    assert images.decode_image(pictures.Picture(alone, "red").encode()).size == (64, 64)


def test_people_give_a_second_name_where_a_keyword_says_it():
    source = open_records("emoji_questions", "train")
    found = {}
    for index in range(0, 12 * len(collection().names), 12):
        record = source.without_images(index)
        found[record.main_answers[0]] = collections.Counter(record.answers)
    assert found["poodle"] == {"poodle": 7, "dog": 3} and found["dog"] == {"dog": 10}
    assert all(sum(count.values()) == 10 for count in found.values())


def test_the_list_of_answers_is_that_of_train():
    path = EMBEDDED_MADE["emoji_questions"] / "answers.txt"
    answers = path.read_text().splitlines()
    assert answers == questions.vocabulary() and 300 < len(answers) < 500


def test_questions_fit_into_16_tokens(asked):
    tokenizer = load_tokenizer("emoji")
    longest = max(len(tokenizer.encode(q).ids) for rows in asked.values() for q, *_ in rows)
    assert longest + 2 <= 16
