"""Classes of images by folder, table and caption."""

import collections
import json

import pytest

from vlmo_jax.datasets import open_source
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.labels import folder_of, read_labels
from vlmo_jax.datasets.records import Record


def records(*ids, texts=("cat",)):
    return [Record(b"", texts, (), image_id) for image_id in ids]


def test_the_last_folder_is_the_class():
    assert folder_of("train/n01/pic.1") == "n01" and folder_of("pic") == ""
    assert read_labels(records("a/b/1", "c/2"), "folder") == ["b", "c"]
    with pytest.raises(DataError, match="image 'alone' has no class that its folder"):
        read_labels(records("a/1", "alone"), "folder")


def test_captions_and_tables_tell():
    assert read_labels(records("1", texts=("a dog", "two")), "text") == ["a dog"]
    with pytest.raises(DataError, match="has no class that its text"):
        read_labels(records("1", texts=()), "text")
    with pytest.raises(DataError, match="groups.json is not there"):
        read_labels(records("1"), "group")
    source = open_source("emoji", "unseen_artist[150:200]")
    groups = json.loads((source.directory / "groups.json").read_text())
    labels = read_labels(source, "group")
    for record, group, subgroup in zip(source, labels, read_labels(source, "subgroup")):
        assert record.texts[0] in groups[group][subgroup]
    assert len(collections.Counter(labels)) > 1
