"""VQAv2's files: questions by image, answers in the official order, and what is left out."""

import json
import pickle

import pytest

from tests.datasets.readers.official_files import read_all, vqav2
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.vqav2 import VqaV2Reader, held_out_images

ANNOTATIONS = "v2_mscoco_train2014_annotations.json"
QUESTIONS = "v2_OpenEnded_mscoco_train2014_questions.json"


@pytest.fixture
def source(tmp_path):
    return vqav2(tmp_path / "vqa")


def test_records_are_images_with_their_questions(source):
    reader = VqaV2Reader(source)
    found, left_out = read_all(reader)
    assert {split: len(records) for split, records in found.items()} == {
        "train": 3 + 5,
        "validation": 1,
        "test2015": 2,
        "test_dev": 1,
    }
    first, second, third = found["train"][:3]
    assert first.image_id == "COCO_train2014_000000000009"
    assert first.question_ids == tuple(f"{n}" for n in (1000, 1002, 1004, 1006, 1008))
    assert (
        first.num_answers.tolist() == [10] * 5 and first.answers[:10] == ("2",) * 7 + ("two",) * 3
    )
    assert first.main_answers[:2] == ("Two", "two") and first.answer_types[0] == "number"
    assert third.questions == ("Is it day?", "Is it a dog?")
    assert left_out == {
        "question 2002": "it has no text",
        "question 2003": "it has no annotation",
        "question 2004": "it has 9 answers, not 10",
        "question 2005": f"it is annotated, and is no question of {QUESTIONS}",
    }
    assert reader.counts()["train"] == {
        "images": 8,
        "questions": 11 + 7 - len(found["validation"][0].questions),
    }
    assert reader.license == "A licence, http://licence.test"
    assert found["test2015"][0].answers == () and found["test2015"][0].question_ids == (
        "4000",
        "4001",
    )
    assert found["test_dev"][0].image_id == "test-dev2015/COCO_test2015_000000000201"


def test_answers_are_those_that_stand_nine_times_in_both_files(source):
    reader = pickle.loads(pickle.dumps(VqaV2Reader(source)))
    list(reader.entries())
    files = reader.files()
    # "two" and "Two" 9 times of train; "yes" 4 times of train, of which two are left out, and 6 of
    # val, held out or not.
    assert files["answers.txt"] == "2\nyes\n"
    assert reader.notes == [
        "answers.txt lists 2 answers, where the whole official files give 3,129: heads of published"
        " models do not fit"
    ]
    asked = json.loads(files["questions.json"])
    assert asked["test2015"] == 3 and "test_dev" not in asked
    assert asked["train"] + asked["validation"] == 18


def test_plain_splits_are_the_official_ones(source):
    found, _ = read_all(VqaV2Reader(source, splits="plain"))
    assert {s: len(r) for s, r in found.items() if "test" not in s} == {
        "train2014": 3,
        "val2014": 6,
    }
    with pytest.raises(DataError, match="splits=other is not known; use one of standard, plain"):
        VqaV2Reader(source, splits="other")


def test_the_same_thousand_images_are_held_out_whatever_their_order():
    ids = list(range(40_504))
    held_out = held_out_images(dict.fromkeys(ids))
    assert len(held_out) == 1000 and held_out == held_out_images(dict.fromkeys(reversed(ids)))
    assert sorted(held_out)[:3] == [30, 68, 87]


def test_missing_images_leave_their_record_out(source):
    (source / "val2014" / "COCO_val2014_000000000102.jpg").unlink()
    _, left_out = read_all(VqaV2Reader(source))
    why = left_out["COCO_val2014_000000000102"]
    assert why == "val2014/COCO_val2014_000000000102.jpg: there is no such file"


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "name, change, message",
    [
        (
            QUESTIONS,
            lambda d: d["questions"][3].update(question_id=1000),
            "line 1, questions 4 has question_id 1000, as one before",
        ),
        (
            ANNOTATIONS,
            lambda d: d["annotations"][3].update(question_id=1000),
            "line 1, annotations 4 has question_id 1000, as one",
        ),
        (
            ANNOTATIONS,
            lambda d: d["annotations"][2].pop("answers"),
            "line 1, annotations 3 has no 'answers'; it has question_type",
        ),
        (
            QUESTIONS,
            lambda d: d["questions"][1].update(image_id="9"),
            "line 1, questions 2 needs a number as image_id",
        ),
        (
            QUESTIONS,
            lambda d: d["questions"][1].update(question_id=None),
            "questions 2 has question_id=None, which is no whole number",
        ),
        (
            ANNOTATIONS,
            lambda d: d["annotations"][1]["answers"][3].update(answer="\ud83d"),
            "annotations 2 holds half a character",
        ),
        (QUESTIONS, lambda d: d["questions"].insert(0, 7), "questions 1 is 7, where an object"),
        (
            QUESTIONS,
            lambda d: d.pop("questions"),
            f"{QUESTIONS} has no list 'questions', only info",
        ),
    ],
)
def test_what_is_no_official_file_is_named(source, name, change, message):
    edit(source / name, change)
    with pytest.raises(DataError, match=message):
        list(VqaV2Reader(source).entries())


def test_damaged_and_missing_files_are_named(source):
    path = source / ANNOTATIONS
    path.write_text(path.read_text()[:500])
    with pytest.raises(DataError, match=f"{ANNOTATIONS} is cut: it ends in line 1"):
        list(VqaV2Reader(source).entries())
    copy = source / "old" / QUESTIONS
    for folder in ("old", "new"):
        (source / folder).mkdir()
        (source / folder / QUESTIONS).write_text((source / QUESTIONS).read_text())
    (source / QUESTIONS).unlink()
    with pytest.raises(DataError, match=f"/new/{QUESTIONS} and .*/old/{QUESTIONS}; move one away"):
        list(VqaV2Reader(source).entries())
    copy.unlink()
    path.unlink()
    with pytest.raises(
        MissingDataError, match=f"has the questions of train2014 and no {ANNOTATIONS}"
    ):
        list(VqaV2Reader(source).entries())
    with pytest.raises(MissingDataError, match="has no questions; put v2_OpenEnded"):
        list(VqaV2Reader(source / "train2014").entries())
