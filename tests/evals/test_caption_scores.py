"""Scores and tokens of captions, on what is easy to say by hand; the official values are checked in
tests/interop/checks/test_captions.py.
"""

import numpy as np
import pytest

from vlmo_jax.evals import caption_tokens as tokens
from vlmo_jax.evals.caption import caption_metrics, result_id
from vlmo_jax.evals.caption_scores import NAMES, caption_scores


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


def test_images_without_references_are_not_scored(monkeypatch):
    monkeypatch.setattr(tokens, "find_java", lambda: None)
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
        ("", ""),
    ],
)
def test_tokens_of_python(text, expected):
    assert tokens.python_tokens(text) == expected


def test_line_ends_in_a_caption_move_no_other(monkeypatch):
    monkeypatch.setattr(tokens, "find_java", lambda: None)
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
