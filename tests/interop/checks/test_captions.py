"""Scores and tokens of captions: the official values hold, and every changed one is noticed."""

import pytest

from tests.interop.checks.changes import changed_at, failures
from tests.paths import DATA
from vlmo_jax.interop.checks.reference import load_fixture


@pytest.fixture(scope="module")
def info():
    return load_fixture(DATA / "downstream" / "caption_metrics.json")[1]


def test_official_values_hold(info, capsys):
    assert failures({}, info) == set()


@pytest.mark.parametrize(
    "path, value, name",
    [
        (("tokenised", "overall", "CIDEr-D"), 2.2295133, "tokenised/CIDEr-D"),
        (("tokenised", "overall", "BLEU-4"), 0.5221272, "tokenised/BLEU-4"),
        (("tokenised", "per_image", "img3", 4), 0.73346694, "tokenised/per_image/img3"),
        (("first_7_images_alone", "overall", "ROUGE-L"), 0.68, "first_7_images_alone/ROUGE-L"),
        (("one_image", "candidates", "a"), "a man on the wave", "one_image/BLEU-1"),
        (("raw", "candidates", "raw3"), "The bus sits.", "raw/'The bus sits.'"),
        (("ptb", 5, 1), "don't", "ptb/\"Don't can't won't gonna wanna\""),
        (("line_breaks", 3, 1), "one", "line_breaks/'\\x85'"),
    ],
)
def test_changes_are_noticed(info, path, value, name):
    assert name in failures({}, changed_at(info, *path, value=value))
