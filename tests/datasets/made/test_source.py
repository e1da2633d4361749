"""Made data sets open like those on disk, and refuse as those do."""

import pathlib

import pytest

from vlmo_jax.datasets import records, sources


def test_parts_of_splits_open_as_of_data_sets_on_disk():
    whole = sources.open_records("emoji_questions", "validation")
    part = sources.open_records("embedded:emoji_questions", "validation[10:20]")
    assert len(part) == 10 and part[3] == whole[13]
    both = sources.open_records("emoji_questions", "validation[:1%]+unseen_artist[-5:]")
    assert len(both) == 48 + 5 and both[48].image_id == "unseen_artist/4795"
    with pytest.raises(IndexError):
        both[53]
    assert sources.split_sizes("emoji_questions")["unseen_artist"] == 4800
    assert sources.kind_of("emoji_statements") is records.STATEMENTS
    assert sources.source_folder("emoji_questions").joinpath("answers.txt").is_file()
    joined = sources.open_records("emoji_questions+emoji_questions", "validation")
    assert len(joined) == 9600 and joined[4800] == whole[0]


@pytest.mark.parametrize(
    ("source", "split", "kinds", "message"),
    [
        (
            "emoji_questions",
            "test",
            None,
            "split='test' is not in emoji_questions; there are: train",
        ),
        ("emoji_questions", "train[:0]", None, "split='train.:0.' of emoji_questions is empty"),
        ("emoji_statements", "train", [records.IMAGES], "emoji_statements holds statements about"),
    ],
)
def test_refusals(source, split, kinds, message):
    with pytest.raises(ValueError, match=message):
        sources.open_records(source, split, kinds)


def test_a_folder_of_the_same_name_is_asked_about(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("emoji_statements").mkdir()
    with pytest.raises(ValueError, match="embedded:emoji_statements for the one of the package"):
        sources.open_records("emoji_statements", "train")
    assert len(sources.open_records("embedded:emoji_statements", "train")) == 64_000
