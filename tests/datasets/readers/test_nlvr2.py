"""NLVR2's files: statements with two images by content, groups, subsets, and what is left out."""

import json

import pytest

from tests.datasets.readers.official_files import nlvr2, read_all
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.nlvr2 import Nlvr2Reader


@pytest.fixture
def source(tmp_path):
    return nlvr2(tmp_path / "nlvr2")


def test_records_are_statements_with_two_images(source):
    reader = Nlvr2Reader(source)
    found, left_out = read_all(reader)
    assert {s: [r.statement_id for r in rs] for s, rs in found.items()} == {
        "train": ["train-10-0-0", "train-10-1-0"],
        "dev": ["dev-0-0-0", "dev-0-1-0", "dev-0-1-1"],
        "test1": ["test1-0-0-0"],
    }
    first, second, third = found["dev"]
    assert [int(one.label) for one in found["dev"]] == [1, 0, 0]
    assert first.group_id == second.group_id == "dev-0-*-0" != third.group_id
    assert first.statement == "One dog sits."
    assert first.image_0.startswith(b"\x89PNG") and first.image_1.startswith(b"\xff\xd8")
    assert left_out["train-11-0-1"] == "it has no text"
    assert "train-12-0-img1.png: there is no such file" in left_out["train-12-0-0"]
    assert "dev/dev-3-0-img1.png: " in left_out["dev-3-0-0"]
    assert "it is an HTML page" in left_out["dev-3-0-0"]
    assert reader.counts() == {
        "train": {"statements": 3, "true": 1},
        "dev": {"statements": 4, "true": 2},
        "test1": {"statements": 1, "true": 1},
    }


def test_balanced_files_are_subsets(source):
    reader = Nlvr2Reader(source)
    subsets = json.loads(reader.files()["subsets.json"])
    assert subsets == {"balanced_dev": ["dev-0-0-0", "dev-0-1-0"]}
    assert [path.name for path in reader.sources()] == [
        "train.json",
        "dev.json",
        "test1.json",
        "balanced_dev.json",
    ]


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"identifier": "dev-1-0-0"', "dev.json line 2 is no JSON"),
        ("[1]", "dev.json line 2 must be an object"),
        (
            '{"identifier": "dev-1-0", "sentence": "a", "label": "True"}',
            "'dev-1-0'; it must be split-set",
        ),
        (
            '{"identifier": "dev-1-0-0", "sentence": "a", "label": "Maybe"}',
            'label .Maybe.; it must be "True"',
        ),
        (
            '{"identifier": "dev-1-0-0", "sentence": "\\ud83d", "label": "True"}',
            "dev.json line 2 holds half a character",
        ),
        ('{"identifier": "dev-1-0-0", "label": "True"}', "line 2 has no text as 'sentence'"),
        (
            '{"identifier": "train-10-0-0", "sentence": "a", "label": "True"}',
            "dev.json line 2 has identifier train-10-0-0, as .*train.json line 1; leave one out",
        ),
    ],
)
def test_lines_that_cannot_be_read_are_named(source, line, message):
    path = source / "nlvr2" / "data" / "dev.json"
    path.write_text(path.read_text().splitlines()[0] + "\n" + line + "\n")
    with pytest.raises(DataError, match=message):
        list(Nlvr2Reader(source).entries())


def test_a_statement_without_label_is_of_unknown_truth(source):
    path = source / "nlvr2" / "data" / "test1.json"
    path.write_text(json.dumps({"identifier": "test1-0-0-0", "sentence": "A cat."}) + "\n")
    found, _ = read_all(Nlvr2Reader(source))
    assert found["test1"][0].label == -1


def test_a_file_in_another_encoding_is_told(source):
    path = source / "nlvr2" / "data" / "dev.json"
    path.write_text(path.read_text(), encoding="utf-16")
    with pytest.raises(DataError, match="dev.json line 1 is not UTF-8: .*; save it as UTF-8"):
        list(Nlvr2Reader(source).entries())


def test_two_copies_of_a_file_are_refused(source):
    copy = source / "old" / "data" / "dev.json"
    copy.parent.mkdir(parents=True)
    copy.write_text((source / "nlvr2" / "data" / "dev.json").read_text())
    with pytest.raises(DataError, match="/nlvr2/data/dev.json and .*/old/data/dev.json; move one"):
        list(Nlvr2Reader(source).entries())


def test_a_folder_without_statements_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match="has no statements; put train.json"):
        list(Nlvr2Reader(tmp_path).entries())
