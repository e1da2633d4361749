"""Questions and statements of one's own, in JSON lines and tables."""

import pytest

from tests.datasets.readers.official_files import read_all
from tests.datasets.readers.pictures import put
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.question_rows import QuestionRowsReader
from vlmo_jax.datasets.readers.statement_rows import StatementRowsReader

QUESTIONS = """\
{"image": "photos/cat.jpg", "question": "What is on the mat?", "answer": "A cat"}

{"image": "CAT.jpg", "question": "How many   cats?", "answers": ["1", "one", "2"]}
{"image": "photos/dog.jpg", "question": "Is it a cat?", "answer": "no", "split": "validation"}
{"image": "photos/dog.jpg", "question": "What is it?", "split": "validation"}
{"image": "gone.jpg", "question": "What is it?", "answer": "a bird"}
{"image": "photos/dog.jpg", "question": "", "answer": "a bird"}
{"image": "photos/cat.jpg", "question": "And here?", "answer": 3, "split": "validation"}
"""
STATEMENTS = """\
image_0,image_1,statement,label,group
photos/cat.jpg,photos/dog.jpg,"Both are cats, or so.",true,1
photos/dog.jpg,cat.jpg,Both are dogs.,No,1

photos/dog.jpg,gone.jpg,Both are dogs.,no,2
photos/dog.jpg,photos/cat.jpg,Who knows?,,
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "dog"):
        put(tmp_path / "photos" / f"{name}.jpg")
    return tmp_path


def test_questions_of_an_image_are_put_together(folder):
    (folder / "questions.jsonl").write_text(QUESTIONS)
    reader = QuestionRowsReader(folder)
    found, left_out = read_all(reader)
    (cat,), (dog, again) = found["train"], found["validation"]
    assert (
        cat.questions == ("What is on the mat?", "How many cats?")
        and cat.image_id == "train:photos/cat.jpg"
    )
    assert cat.answers == ("A cat", "1", "one", "2") and cat.num_answers.tolist() == [1, 3]
    assert dog.num_answers.tolist() == [1, 0] and dog.question_ids == ("2", "3")
    assert again.answers == ("3",) and again.image_id == "validation:photos/cat.jpg"
    assert reader.files() == {"answers.txt": "cat\n1\n"}
    assert reader.counts()["validation"] == {"images": 2, "questions": 3}
    assert list(left_out.values()) == ["no such file", "it has no text"]
    assert all("questions.jsonl line " in where for where in left_out)


def test_a_name_in_another_folder_does_not_take_the_image_of_one_that_is_there(folder):
    put(folder / "elsewhere" / "bird.jpg")
    (folder / "questions.csv").write_text(
        "image,question\nold/cat.jpg,Missing?\nphotos/cat.jpg,There?\n/far/off/bird.jpg,Moved?\n"
    )
    reader = QuestionRowsReader(folder)
    found, left_out = read_all(reader)
    assert [(r.image_id, r.questions) for r in found["train"]] == [
        ("photos/cat.jpg", ("There?",)),
        ("elsewhere/bird.jpg", ("Moved?",)),
    ]
    [(where, why)] = left_out.items()
    assert where.endswith("line 2: old/cat.jpg")
    assert why == "no such file; photos/cat.jpg is what 'photos/cat.jpg' means"
    [note] = reader.notes
    assert "1 of 3 paths were matched by their name alone; the first is '/far/off/bird" in note


def test_images_in_linked_folders_are_found(folder, tmp_path_factory):
    far = tmp_path_factory.mktemp("far")
    put(far / "fish.jpg")
    (folder / "more").symlink_to(far)
    (folder / "questions.csv").write_text("image,question\nmore/fish.jpg,What?\n")
    assert read_all(QuestionRowsReader(folder))[0]["train"][0].image_id == "more/fish.jpg"


def test_blank_fields_of_a_table_are_as_blank_texts_elsewhere(folder):
    (folder / "questions.csv").write_text(
        "image,question,answer,answers\ncat,,a bird,\ncat,What?,a cat,\n"
    )
    found, left_out = read_all(QuestionRowsReader(folder))
    assert found["train"][0].answers == ("a cat",)
    assert list(left_out.values()) == ["it has no text"]
    for name, text in {"csv": "image,question\n,What?\n", "jsonl": '{"image": " "}'}.items():
        (folder / "questions.csv").unlink(missing_ok=True)
        path = folder / f"questions.{name}"
        path.write_text(text)
        with pytest.raises(DataError, match=r"line \d has no 'image'; it has"):
            list(QuestionRowsReader(folder).entries())
        path.unlink()


def test_what_is_not_used_is_told(folder):
    (folder / "questions.csv").write_text(
        "image,question,anwser,answer\ncat,Which of A or B?,?,A\ncat,What?,?,a cat\n"
    )
    reader = QuestionRowsReader(folder)
    list(reader.entries())
    assert reader.files() == {"answers.txt": "cat\n"}
    assert reader.notes[-2] == "columns that are not read: anwser"
    assert "the answer of 1 questions has no normal form, such as 'A'" in reader.notes[-1]
    (folder / "questions.csv").unlink()
    (folder / "statements.csv").write_text(
        "image_0,image_1,statement,labels\nphotos/cat.jpg,photos/dog.jpg,Both are cats.,true\n"
    )
    reader = StatementRowsReader(folder)
    list(reader.entries())
    assert reader.notes == ["columns that are not read: labels"]


def test_tables_and_a_file_a_split(folder):
    (folder / "validation.csv").write_text(
        "image,question,answer\nphotos/cat.jpg,What?,a cat|cat\n".upper().replace(
            "PHOTOS/CAT.JPG", "cat"
        )
    )
    (folder / "train.tsv").write_text("image\tquestion\tanswers\ndog\tWhat, then?\tdog\n")
    found, left_out = read_all(QuestionRowsReader(folder))
    assert not left_out and found["validation"][0].answers == ("A CAT", "CAT")
    assert found["train"][0].questions == ("What, then?",)


def test_statements(folder):
    (folder / "statements.csv").write_text(STATEMENTS)
    reader = StatementRowsReader(folder)
    found, left_out = read_all(reader)
    assert [(r.statement, int(r.label), r.group_id) for r in found["train"]] == [
        ("Both are cats, or so.", 1, "1"),
        ("Both are dogs.", 0, "1"),
        ("Who knows?", -1, ""),
    ]
    assert list(left_out.values()) == ["gone.jpg: no such file"]
    assert reader.counts() == {"train": {"statements": 3, "true": 1}}


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "line 1 is no JSON"),
        ("[]", "line 1 must be an object"),
        ('{"image": "cat.jpg", "image": "dog.jpg"}', "line 1 has the key 'image' twice"),
        ('{"image": "cat.jpg", "question": "\\ud83d"}', "line 1 holds half a character"),
        ('{"image": "cat.jpg", "question": "a", "answer": "\\ud83d"}', "line 1 holds half a char"),
        ('{"answer": "a", "Answer": "b"}', "line 1 has two columns called 'answer'"),
        ('{"question": "What?"}', "line 1 has no 'image'; it has question"),
        ('{"image": "cat.jpg"}', "line 1 has no 'question'; it has image"),
        (
            '{"image": "cat.jpg", "question": "a", "answer": {"a": 1}}',
            "as answer; give a text, or a list",
        ),
        ('{"image": "cat.jpg", "question": "a", "split": "a b"}', "has split 'a b'; use letters"),
        (
            '{"image": "cat.jpg", "question": "a", "question_id": 0}\n' * 2,
            "line 2 has question_id 0, as .* line 1",
        ),
    ],
)
def test_rows_that_cannot_be_read_are_named(folder, line, message):
    (folder / "questions.csv").mkdir()  # no file, though called so
    (folder / "questions.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        list(QuestionRowsReader(folder).entries())


@pytest.mark.parametrize(
    "text, message",
    [
        ("image_0,statement,label\ncat.jpg,a,true\n", "line 2 has no 'image_1'; it has image_0"),
        ("image_0,image_1,statement,label\ncat,,a,true\n", "line 2 has no 'image_1'; it has im"),
        ("image_0,image_0,statement,label\ncat,dog,a,true\n", "two columns called 'image_0'"),
        ("image_0,image_1,statement,label\ncat,dog,a,maybe\n", "label 'maybe'; use true or false"),
        ("image_0,image_1,statement,label\ncat,dog,a, b,true\n", "has 5 fields and the header 4"),
        ('image_0,image_1,statement,label\ncat,dog,"a" b,true\n', "line 2 cannot be read"),
    ],
)
def test_statements_that_cannot_be_read_are_named(folder, text, message):
    (folder / "statements.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        list(StatementRowsReader(folder).entries())


def test_a_folder_without_rows_is_refused(folder):
    with pytest.raises(MissingDataError, match=r"has no \*.jsonl, \*.csv, \*.tsv file"):
        list(QuestionRowsReader(folder).entries())
