"""The page of masked language modelling: texts with blanks and the words that fill them."""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from vlmo_jax.reports.canvas import GREY, HEAD, INK, MARGIN, RIGHT, Page, shorten

# The height of a line, and the widths of a right answer and of a word with its probability, in
# inches.
_LINE, _ANSWER, _WORD = 0.21, 1.5, 1.25


def fill_in_page(
    columns: Mapping[str, Sequence[Any]], png: str | os.PathLike, *, title: str = ""
) -> None:
    """Draws texts with blanks and the words that models fill in, side by side; right ones are
    green.

    Args:
        columns: what the model was, such as "before", -> `evals.masked_text.FillIn`s, of the same
            texts in every column.
        png: the file to write.
        title: a line above all.
    """
    first = next(iter(columns.values()))
    shown = min((len(guesses) for fill in first for guesses in fill.guesses), default=0)
    column_width = shown * _WORD + 0.2
    inner = _ANSWER + len(columns) * column_width
    texts = [textwrap.wrap(_with_blanks(fill.parts), int(inner * 13)) for fill in first]
    lines = 1 + sum(
        len(text) + len(fill.answers) + 1 for text, fill in zip(texts, first, strict=True)
    )
    headings = 2 if title else 1
    page = Page(2 * MARGIN + inner, 2 * MARGIN + HEAD * headings + _LINE * lines)
    top = page.title(title)
    lefts = [MARGIN + _ANSWER + number * column_width for number in range(len(columns))]
    for left, name in zip(lefts, columns, strict=True):
        page.text(left, top, f"{name}: likeliest words", fontsize=9, color=GREY)
    top += HEAD + _LINE
    for text, *fills in zip(texts, *columns.values(), strict=True):
        for line in text:
            page.text(MARGIN, top, line, fontsize=10, va="baseline", color=INK)
            top += _LINE
        for blank, answer in enumerate(fills[0].answers):
            label = f"[{blank + 1}]  {answer}"
            page.text(MARGIN, top, label, fontsize=9, va="baseline", color=GREY, weight="bold")
            for left, fill in zip(lefts, fills, strict=True):
                _draw_guesses(page, left, top, fill.guesses[blank][:shown], answer)
            top += _LINE
        top += _LINE
    page.save(png)


def _draw_guesses(
    page: Page, left: float, top: float, guesses: Sequence[tuple[str, float]], answer: str
) -> None:
    """Words with their probabilities, side by side."""
    for place, (word, probability) in enumerate(guesses):
        short = shorten(word, 14, placeholder="…")
        page.text(
            left + place * _WORD,
            top,
            f"{short} {100 * probability:.0f} %",
            fontsize=8.5,
            va="baseline",
            color=RIGHT if word == answer else GREY,
            weight="bold" if word == answer else "normal",
        )


def _with_blanks(parts: Sequence[str]) -> str:
    """The parts of a text, which lie around its blanks, with numbered blanks between them."""
    blanks = [f"___[{number}]___" for number in range(1, len(parts))]
    pairs = zip(parts, [*blanks, ""], strict=True)
    return " ".join(text for pair in pairs for text in pair if text)
