"""Questions to an index: texts and pictures that are added and taken away, and what is found."""

import dataclasses
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from vlmo_jax.commands.endings import UserError
from vlmo_jax.inference.model import Model
from vlmo_jax.search.index import Index
from vlmo_jax.search.origins import origin_of
from vlmo_jax.search.pictures import Picture

MOST = 10_000  # hits, and hits that are re-ranked
_NOTHING = 1e-6  # length of a sum of terms that points nowhere


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
        for name, least in (("top_k", 1), ("rerank", 0)):
            if not least <= getattr(self, name) <= MOST:
                raise QueryError(f"{name}={getattr(self, name)} must be {least} to {MOST}")
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


class Found(Protocol):
    """What a search engine finds: float32 [Q, k] and int32 [Q, k], best first; score -inf and row
    -1 where there are fewer.
    """

    @property
    def scores(self) -> np.ndarray:
        """Cosines."""
        ...

    @property
    def rows(self) -> np.ndarray:
        """Of the index."""
        ...


class Engine(Protocol):
    """Finds the vectors of an index that are nearest to others."""

    def top_k(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Found:
        """The k best rows for each of float32 [Q, D], of those that `allowed`, bool [N], leaves."""
        ...


class Searcher:
    """Answers questions about an index.

    A picture of the index that is a term of a question (`picture_id`) is not among its own answers:
    "more like this" means others. A picture that is handed in (`image`) is no picture of the index,
    and if the index has the same one, that is found.

    Args:
        index: that is open.
        model: of it.
        engine: that finds vectors; None for the exact search over all.

    Raises:
        OtherModelError: the index is of another model.
    """

    def __init__(self, index: Index, model: Model, engine: Engine | None = None) -> None:
        index.about.origin.require_same(
            origin_of(model, index.about.model), index.folder, "or make the index anew"
        )
        self.index, self.model = index, model
        if engine is None:
            from vlmo_jax.search.engine.exact import ExactSearch

            engine = ExactSearch(index.vectors)
        self._engine = engine

    def search(self, query: Query) -> list[Hit]:
        """The pictures that answer a question, best first.

        Raises:
            QueryError: a picture cannot be read or is not in the index, or the terms cancel out.
        """
        found = self.search_many([query])[0]
        if isinstance(found, QueryError):
            raise found
        return found

    def search_many(self, queries: Sequence[Query]) -> list[list[Hit] | QueryError]:
        """Answers several questions together, which is faster than one after another.

        Returns:
            For each its hits, or what is wrong with it: one that is wrong spoils no other.
        """
        raise NotImplementedError

    def cut_texts(self, query: Query) -> list[str]:
        """The texts of a question that are longer than the model reads: their ends do not count."""
        raise NotImplementedError
