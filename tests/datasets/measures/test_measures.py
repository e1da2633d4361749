import numpy as np
import pytest
from PIL import Image

from vlmo_jax.datasets import records, stats, writer
from vlmo_jax.datasets.measures.questions import measure_questions
from vlmo_jax.datasets.measures.regions import format_region_stats, measure_regions
from vlmo_jax.datasets.measures.statements import measure_statements


@pytest.fixture
def questions(encoded_image):
    return [
        records.QuestionsRecord(
            encoded_image(i),
            f"coco/{i}",
            ("is it a cat", "how many are there"),
            (f"{i}0", f"{i}1"),
            ("yes",) * 10 + ("2",) * 10,
            np.array([10, 10], np.int32),
            ("Yes." if i else "no", "two"),
            ("yes/no", "number"),
            ("is it", "how many"),
        )
        for i in range(10)
    ]


@pytest.fixture
def statements(encoded_image):
    return [
        records.StatementRecord(
            encoded_image(i),
            encoded_image(i + 1, "JPEG"),
            "both are cats",
            np.int32(i % 3 - 1),
            f"dev-{i}",
            f"group {i // 2}" if i < 6 else "",
        )
        for i in range(7)
    ]


def _dataset(out, kind, members):
    with writer.DatasetWriter(out, kind=kind, description="for tests") as dataset:
        for record in members:
            dataset.write("train", record)
    return str(out)


def test_measures_of_questions(questions):
    measured = measure_questions([*questions, None], lambda text: (len(text), 1))
    assert measured.formats == {"PNG": 10} and measured.broken == 1
    assert measured.questions.tolist() == [2] * 10 and measured.answers.tolist() == [10] * 20
    assert measured.types == {"yes/no": 10, "number": 10}
    assert measured.main_answers == {"yes": 9, "no": 1, "2": 10}
    assert measured.texts.words.tolist() == [4, 4] * 10
    assert measured.texts.tokens.tolist() == [11, 18] * 10 and measured.texts.unknown == 20


def test_measures_of_statements(statements):
    measured = measure_statements(statements)
    assert measured.formats == {"PNG": 7, "JPEG": 7}
    assert measured.labels == {-1: 3, 0: 2, 1: 2}
    assert measured.groups.tolist() == [2, 2, 2] and measured.texts.tokens is None


def test_report_of_questions(tmp_path, questions, capsys):
    source = _dataset(tmp_path / "data", records.QUESTIONS, questions)
    stats.main([source, "--tokenizer", "emoji", "--text_length", "7"])
    said = capsys.readouterr().out
    assert "in the vocabulary of 2" in said and "95.00%" in said
    assert "Most frequent answers: 2 (10), yes (9), no (1)" in said and "cut at 7" in said
    assert "train: coco/0: is it a cat | no" in said


def test_report_of_statements_and_its_picture(tmp_path, statements, capsys):
    source = _dataset(tmp_path / "data", records.STATEMENTS, statements)
    stats.main([source, "--picture", str(tmp_path / "some.png")])
    said = capsys.readouterr().out
    assert "28.57%" in said and "42.86%" in said and "train: dev-0: both are cats" in said
    with Image.open(tmp_path / "some.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000


def test_texts_are_not_drawn(tmp_path):
    with pytest.raises(SystemExit, match="nothing for --picture"):
        stats.main(["glosses", "--picture", str(tmp_path / "some.png")])


def test_measures_of_regions():
    record = records.RegionsRecord(
        features=np.full((3, 4), -2.5, np.float32),
        boxes=np.zeros((0, 4), np.float32),
        width=np.asarray(0, np.int32),
        height=np.asarray(0, np.int32),
        classes=np.full((3, 2), 0.5, np.float32),
        texts=("a cat", "two red cats"),
        keywords=(),
        image_id="7",
    )
    measured = measure_regions([record, None, record], lambda text: (len(text), 1))
    assert measured.regions.tolist() == [3, 3] and measured.widths == {4} and measured.broken == 1
    assert (measured.boxes, measured.classes, measured.largest) == (0, 2, 2.5)
    assert measured.texts.words.tolist() == [2, 3] * 2 and measured.texts.unknown == 4
    (_, _, header, _, row, *_) = format_region_stats({"train": measured}, 8).splitlines() + [""]
    assert "numbers a region" in header or "numbers a region" in row
