"""Lists of answers, in the forms in which people have them."""

import json

import pytest

from vlmo_jax.datasets.answer_lists import answers_text, find_answers, read_answers
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.vqa_answers import Annotation, build_vocabulary

ANSWERS = ["yes", "christmas tree", "2"]
FORMS = {
    "lines": answers_text(ANSWERS),
    "beit3": "\n".join(
        json.dumps({"answer": a, "label": i}) for i, a in [*enumerate(ANSWERS)][::-1]
    ),
    "hugging_face": json.dumps({str(i): a for i, a in enumerate(ANSWERS)}, indent=2),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_are_read(tmp_path, form):
    (tmp_path / "answers.txt").write_text(FORMS[form])
    assert read_answers(find_answers(str(tmp_path))) == ANSWERS
    assert read_answers(find_answers("/nowhere", str(tmp_path / "answers.txt"))) == ANSWERS


def test_an_answer_of_articles_alone_counts_like_any_other(tmp_path):
    annotations = [Annotation(0, 0, answer, ()) for answer in ("yes", "a", "The", "no", "{1}")]
    answers = build_vocabulary(annotations, min_count=1)
    assert answers == ["yes", "", "no", "1"]
    (tmp_path / "answers.txt").write_text(answers_text(answers))
    assert read_answers(tmp_path / "answers.txt") == answers


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("yes\nno\nyes\n", "lists 'yes' twice, as number 1 and 3"),
        ("yes\n\nno\n", "line 2 is blank"),
        ('{"answer": "yes"}', "is no list of answers .KeyError"),
        ('{"0": "yes", "2": "no"}', "gives 2 answers, whose labels are not 0 to 1"),
        (
            '{"answer": "a", "label": 0}\n{"answer": "b", "label": 0}',
            "gives 2 answers, whose labels",
        ),
    ],
)
def test_what_is_no_list_is_named(tmp_path, text, message):
    (tmp_path / "answers.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_answers(tmp_path / "answers.txt")


def test_joined_data_sets_need_one_list(tmp_path):
    for name, answers in (("a", ANSWERS), ("b", ANSWERS[:2])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "answers.txt").write_text(answers_text(answers))
    with pytest.raises(
        DataError, match="list other answers; give one list for both with config.data"
    ):
        find_answers(f"{tmp_path / 'a'}+{tmp_path / 'b'}")
    with pytest.raises(MissingDataError, match="there is no such file, which lists the answers"):
        find_answers(str(tmp_path))
