import warnings

import pytest

from vlmo_jax.reports import canvas, fonts


def test_letters_that_no_font_has_are_warned_of_once(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "_told", set())
    monkeypatch.setattr(fonts, "_other_families", lambda: [])
    page = canvas.Page(2, 2)
    with pytest.warns(UserWarning) as told:
        for text in ("\u732b", "\u72ac", "\u9ce5", "a"):
            page.text(0.1, 0.1, text)
        page.save(tmp_path / "page.png")
    assert len(told) == 1 and "CJK" in str(told[0].message)
    assert "fonts-noto-cjk" in str(told[0].message)


def test_a_font_that_has_the_letters_is_taken(monkeypatch):
    others = [("One", frozenset({0x732B})), ("Two", frozenset({0x72AC}))]
    monkeypatch.setattr(fonts, "_other_families", lambda: others)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fonts.families_for("cat \u72ac") == ["DejaVu Sans", "Two"]
        assert fonts.families_for("caf\u00e9") == ["DejaVu Sans"]


def test_long_texts_without_blanks_are_cut_within(tmp_path):
    assert canvas.shorten("\u732b" * 60, 34, placeholder="\u2026") == "\u732b" * 17 + "\u2026"
    assert canvas.shorten("a cat on a mat", 9, placeholder="\u2026") == "a cat on\u2026"
