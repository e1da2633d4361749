"""What an index is asked, texts and pictures that are added and taken away, and what is found."""

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from vlmo_jax.commands.endings import UserError
from vlmo_jax.search.pictures import Picture

MOST, MOST_RERANKED = 10_000, 1000  # hits


class QueryError(UserError, ValueError):
    """A question that has no answer."""


@dataclasses.dataclass(frozen=True)
class Term:
    """A part of a question: one of a text, a picture, or a picture of the index.

    Attributes:
        weight: by which its vector, of length 1, counts; what is below 0 takes away.
        text: in words.
        image: bytes or path of a file, or a picture of Pillow.
        picture_id: of the index.
    """

    weight: float = 1.0
    text: str | None = None
    image: bytes | Path | Image.Image | None = None
    picture_id: str | None = None

    def __post_init__(self) -> None:
        given = [one for one in (self.text, self.image, self.picture_id) if one is not None]
        if len(given) != 1:
            raise QueryError(f"a term is one of text, image and picture_id; it has {len(given)}")
        if self.text is not None and not self.text.strip():
            raise QueryError("a term has an empty text; write what to look for")
        if not np.isfinite(self.weight) or self.weight == 0:
            raise QueryError(f"weight={self.weight} of a term must be a number other than 0")


@dataclasses.dataclass(frozen=True)
class Query:
    """A question.

    Attributes:
        terms: whose vectors are added by their weights; the sum is what pictures are compared with.
        top_k: pictures to find.
        rerank: of the best so many, the fusion encoder says how probable it is that they show the
            texts, and they are put in that order; 0: none.
        folder: only pictures in it and below, from the folder of pictures.
        since, until: only pictures taken on these days and between; those whose day is not known
            are out.
        group_duplicates: whether pictures that are nearly the same count as one.
    """

    terms: Sequence[Term]
    top_k: int = 10
    rerank: int = 0
    folder: str | None = None
    since: datetime.date | None = None
    until: datetime.date | None = None
    group_duplicates: bool = False

    def __post_init__(self) -> None:
        if not self.terms:
            raise QueryError("there is nothing to look for; give a text or a picture")
        for name, least, most in (("top_k", 1, MOST), ("rerank", 0, MOST_RERANKED)):
            if not least <= getattr(self, name) <= most:
                raise QueryError(f"{name}={getattr(self, name)} must be {least} to {most}")
        if self.rerank and not any(term.text for term in self.terms):
            raise QueryError(
                "rerank compares pictures with texts, and there is none; add one, or leave it out"
            )
        if self.since and self.until and self.since > self.until:
            raise QueryError(f"since={self.since} is after until={self.until}; swap them")


class Hit(NamedTuple):
    """A picture that was found.

    Attributes:
        picture: the picture.
        score: cosine of its vector and the question's, -1 to 1.
        probability: that it shows all texts that are added and none that are taken away, each by
            the fusion encoder, as if they were independent; None where it was not asked.
        duplicates: further ones that are nearly the same.
    """

    picture: Picture
    score: float
    probability: float | None = None
    duplicates: Sequence[Picture] = ()
