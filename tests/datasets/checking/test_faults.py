import dataclasses
import re

import numpy as np
import pytest

from vlmo_jax.datasets import check, records, writer


@pytest.fixture
def questions(encoded_image):
    return [
        records.QuestionsRecord(
            encoded_image(i),
            f"coco/{i}",
            ("what is it", "how many"),
            (f"{i}0", f"{i}1"),
            ("a cat", "cat", "1"),
            np.array([2, 1], np.int32),
            ("cat", "1"),
            ("other", "number"),
            ("what is", "how many"),
        )
        for i in range(4)
    ]


@pytest.fixture
def statements(encoded_image):
    return [
        records.StatementRecord(
            encoded_image(0),
            encoded_image(1),
            f"there are {i}",
            np.int32(i % 2),
            f"dev-0-0-{i}",
            "dev-0-0",
        )
        for i in range(4)
    ]


def _check(out, kind, members):
    with writer.DatasetWriter(out, kind=kind, description="for tests") as dataset:
        for record in members:
            dataset.write("train", record)
    return check.check_dataset(str(out))["train"]


def test_good_questions_and_statements_pass(tmp_path, questions, statements):
    assert not _check(tmp_path / "q", records.QUESTIONS, questions).broken
    found = _check(tmp_path / "s", records.STATEMENTS, statements)
    assert not found.broken and not found.repeats


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"questions": ("what is it", "  ")}, "it has a blank question"),
        ({"question_ids": ("1",)}, "it has 2 questions and 1 question_ids"),
        ({"num_answers": np.array([2, 2], np.int32)}, "it has 3 answers, num_answers says 2 \\+ 2"),
        ({"num_answers": np.array([4, -1], np.int32)}, "num_answers says 4 \\+ -1"),
        ({"image": b"broken"}, "its image cannot be decoded"),
        ({"question_ids": ("x", "00")}, "00 is the id of two questions"),
        ({"question_ids": ("x", "x")}, "x is the id of two questions"),
    ],
)
def test_faults_of_questions(tmp_path, questions, changes, problem):
    questions[2] = dataclasses.replace(questions[2], **changes)
    found = _check(tmp_path / "out", records.QUESTIONS, questions)
    assert [name for name, _ in found.broken] == ["coco/2"]
    assert re.search(problem, found.broken[0][1])


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"statement": " "}, "its statement is blank"),
        ({"label": np.int32(2)}, r"its label is 2, not 1 \(true\)"),
        ({"image_1": b"broken"}, "its image cannot be decoded"),
        ({"statement_id": "dev-0-0-0"}, "its id is that of an earlier record"),
    ],
)
def test_faults_of_statements(tmp_path, statements, changes, problem):
    statements[2] = dataclasses.replace(statements[2], **changes)
    found = _check(tmp_path / "out", records.STATEMENTS, statements)
    [(_, said)] = found.broken
    assert re.search(problem, said)


def test_shards_are_those_of_the_manifest(tmp_path, encoded_image, capsys):
    from tests.datasets.building.small_builds import build_small, write_rows

    folder = tmp_path / "download"
    folder.mkdir()
    (folder / "1.png").write_bytes(encoded_image(1))
    write_rows(folder, [{"split": "train", "image": "1.png", "texts": ["one"]}])
    for name in ("a", "b"):
        texts = ["one"] if name == "a" else ["two"]
        write_rows(folder, [{"split": "train", "image": "1.png", "texts": texts}])
        build_small(folder, tmp_path / name / "data")
    check.main([str(tmp_path / "a/data")])
    shard = "data-train.array_record-00000-of-00001"
    (tmp_path / "a/data" / shard).write_bytes((tmp_path / "b/data" / shard).read_bytes())
    with pytest.raises(SystemExit) as ended:
        check.main([str(tmp_path / "a/data")])
    assert ended.value.code == 1
    assert f"broken: {shard}: it is not the file that was built" in capsys.readouterr().out
