"""Blank data sets show nothing, and are else the same."""

import dataclasses
import pickle

import pytest

from vlmo_jax.datasets import images, records, sources
from vlmo_jax.datasets.check import check_dataset
from vlmo_jax.datasets.identity import identify
from vlmo_jax.datasets.records import IMAGES
from vlmo_jax.datasets.sources import open_records, open_source


def test_images_are_grey_and_all_else_is_the_same(dataset, some_records):
    blank = pickle.loads(pickle.dumps(open_source(f"blank:{dataset}", "train")))
    assert len(blank) == 8 and blank.directory == dataset
    assert {record.image for record in blank} == {blank[0].image}
    assert images.decode_image(blank[0].image).getpixel((0, 0)) == (128, 128, 128)
    for record, original in zip(blank, some_records, strict=False):
        assert dataclasses.replace(record, image=original.image) == original
    assert identify(blank) != identify(open_source(str(dataset), "train"))
    with pytest.raises(IndexError):
        blank[8]


def test_both_images_of_statements_are_grey():
    blank = open_records("blank:emoji_statements", "validation[:9]")
    seen = open_records("emoji_statements", "validation[:9]")
    assert {image for r in blank for image in (r.image_0, r.image_1)} == {blank[0].image_0}
    assert [(r.statement, int(r.label)) for r in blank] == [
        (r.statement, int(r.label)) for r in seen
    ]
    assert sources.kind_of("blank:embedded:emoji_statements") is records.STATEMENTS
    assert sources.split_sizes("blank:emoji_questions") == sources.split_sizes("emoji_questions")
    assert sources.source_folder("blank:emoji_questions").name == "emoji_questions"


def test_parts_join_and_refusals_stay(dataset):
    joined = open_records(f"blank:{dataset}+{dataset}", "train", [IMAGES])
    assert len(joined) == 16 and joined[0].image != joined[8].image
    with pytest.raises(ValueError, match="split='none' is not in"):
        open_source(f"blank:{dataset}", "none")
    with pytest.raises(FileNotFoundError, match="no_such_place"):
        open_source("blank:no_such_place", "train")


def test_blank_data_sets_are_checked_as_others(dataset):
    checks = check_dataset(f"blank:{dataset}")
    assert [check.broken for check in checks.values()] == [[], []]
    assert sum(len(check.repeats) for check in checks.values()) == 9
