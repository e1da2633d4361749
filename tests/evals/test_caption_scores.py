"""Scores and tokens of captions, on what is easy to say by hand, and beside pycocoevalcap where it
is installed; the official values are checked in tests/interop/checks/test_captions.py.
"""

import shutil

import numpy as np
import pytest

from tests.paths import DATA
from vlmo_jax.evals import caption
from vlmo_jax.evals import caption_tokens as tokens
from vlmo_jax.evals.caption import caption_metrics, result_id
from vlmo_jax.evals.caption_scores import NAMES, CaptionScores, caption_scores, library_scores
from vlmo_jax.interop.checks.reference import load_fixture


def test_a_copy_of_a_reference_scores_full():
    references = [["a red bus", "a bus"], ["two cats sleep on a mat"], ["rain"]]
    scores = caption_scores(references, [texts[0] for texts in references])
    per_image = dict(zip(NAMES, scores.per_image.T))
    np.testing.assert_allclose(per_image["BLEU-1"], 1, atol=1e-6)
    np.testing.assert_allclose(per_image["ROUGE-L"], 1)
    assert per_image["CIDEr-D"][1] == pytest.approx(10)
    other = caption_scores(references, ["two cats sleep on a mat", "rain", "a red bus"])
    assert other.overall["CIDEr-D"] < 0.1 and other.overall["ROUGE-L"] < 0.3


@pytest.mark.parametrize("references, candidates", [([], []), ([["a"], []], ["a", "b"])])
def test_nothing_to_compare_with_is_refused(references, candidates):
    with pytest.raises(ValueError, match="one or more references"):
        caption_scores(references, candidates)


@pytest.fixture
def alone(monkeypatch):
    """Neither pycocoevalcap nor Java."""
    monkeypatch.setattr(tokens, "library_version", lambda: None)
    monkeypatch.setattr(caption, "library_version", lambda: None)


def test_scores_are_those_of_the_library():
    pytest.importorskip("pycocoevalcap")
    rng = np.random.default_rng(0)
    words = np.array(
        ["a", "red", "blue", "bus", "cat", "dog", "on", "the", "mat", "of", "two", "in"]
    )
    texts = [" ".join(rng.choice(words, rng.integers(13))) for _ in range(80)]
    references = [texts[row : row + 1 + row % 4] for row in range(0, 60, 2)]
    candidates = [*texts[::4][:20], *texts[-10:]]
    ours, theirs = (one(references, candidates) for one in (caption_scores, library_scores))
    assert ours.overall == pytest.approx(theirs.overall, abs=1e-9)
    np.testing.assert_allclose(ours.per_image, theirs.per_image, atol=1e-9)
    assert caption_metrics(references, candidates)[0]["cider"] > 0.1


def test_the_library_scores_where_it_is_installed(alone, monkeypatch):
    marks = CaptionScores(dict.fromkeys(NAMES, 0.25), np.full((1, len(NAMES)), 0.75))
    monkeypatch.setattr(caption, "library_scores", lambda references, candidates: marks)
    assert caption_metrics([("rain",)], ["rain"])[0]["bleu_1"] > 0.9
    assert caption.scored_by() == "the rules of pycocoevalcap 1.2, PTB tokens in Python"
    monkeypatch.setattr(caption, "library_version", lambda: "1.9")
    metrics, cider, *_ = caption_metrics([("rain",)], ["rain"])
    assert metrics["bleu_1"] == metrics["cider"] == 0.25 and cider[0] == 0.75
    assert caption.scored_by() == "pycocoevalcap 1.9, PTB tokens in Python"


def test_what_the_tokens_of_java_lack_is_named(monkeypatch):
    monkeypatch.setattr(tokens, "library_version", lambda: None)
    assert "not installed (pip install 'vlmo-jax[caption]')" in tokens.missing_for_java()
    monkeypatch.setattr(tokens, "library_version", lambda: "1.2")
    monkeypatch.setattr(tokens.shutil, "which", lambda name: None)
    assert tokens.find_java() is None
    assert tokens.missing_for_java() == "there is no java on the path"


@pytest.mark.skipif(shutil.which("java") is None, reason="there is no java on the path")
def test_tokens_of_java():
    pytest.importorskip("pycocoevalcap")
    rows = load_fixture(DATA / "downstream" / "caption_metrics.json")[1]["ptb"]
    found, said = tokens.caption_tokens([text for text, _ in rows])
    assert found == [wanted for _, wanted in rows] and said == tokens.JAVA
    assert tokens.missing_for_java() == ""


def test_images_without_references_are_not_scored(alone):
    references = [("A red bus.", "the bus"), (), ("rain",), ("rain", "water")]
    captions = ["a red bus", "what", "Rain!", ""]
    metrics, cider, exact, said = caption_metrics(references, captions)
    assert said == tokens.PYTHON
    np.testing.assert_array_equal(np.isnan(cider), [False, True, False, False])
    np.testing.assert_array_equal(exact, [True, False, True, False])
    assert metrics["exact_match"] == pytest.approx(2 / 3)
    assert metrics["baseline_exact_match"] == pytest.approx(2 / 3)
    assert caption_metrics([(), ()], ["a", "b"])[0] == {}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("A man's dog isn't barking.", "a man 's dog is n't barking"),
        ("(two) white/black dogs -- 3:30 p.m.", "-lrb- two -rrb- white/black dogs 3:30 p.m."),
        ("A £5 hat… “red”, no. 7", "a # 5 hat red no. 7"),
        ("ninety-five, 95, in May", "ninety-five 95 in may"),
        ("a b&w photo by AT&T", "a b & w photo by at&t"),
        ("rock'n'roll, 'cause of 'em", "rock 'n' roll 'cause of 'em"),
        ("1½ and 1 1/2 of a 4x4", "1 1/2 and 1\xa01/2 of a 4x4"),
        ("plan b. the letter c. Then", "plan b. the letter c then"),
        ("rain (again :)", "rain -lrb- again :-rrb-"),
        ("", ""),
    ],
)
def test_tokens_of_python(text, expected):
    assert tokens.python_tokens(text) == expected


def test_line_ends_in_a_caption_move_no_other(alone):
    assert tokens.caption_tokens(["one\rtwo", "three"])[0] == ["one two", "three"]
    assert tokens.official_lines(["one\rtwo", "three"]) == ["one", "two"]


def test_java_that_fails_is_named(tmp_path, monkeypatch):
    fake = tmp_path / "java"
    fake.write_text("#!/bin/sh\necho no such class >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(
        tokens.TokenizerFailedError, match=r"for 2 captions \(no such class\); look"
    ):
        tokens.java_tokens(["a", "b"], tmp_path)


def test_ids_of_result_files():
    found = [
        result_id(i)
        for i in ("coco/391895", "nocaps/12", "7", "emoji/1f600", "a/COCO_val2014_000000000042.jpg")
    ]
    assert found == [391895, 12, 7, "emoji/1f600", 42]
