"""Answers questions about an index.

What questions and hits are stands in questions.py; their names can be had from here, too.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vlmo_jax.inference.inputs import BrokenInputError, text_row
from vlmo_jax.inference.model import Model
from vlmo_jax.search.engines import Engine
from vlmo_jax.search.grouping import group
from vlmo_jax.search.index import ChangedPictureError, Index
from vlmo_jax.search.origins import origin_of
from vlmo_jax.search.pictures import NoPictureError
from vlmo_jax.search.questions import Hit, Query, QueryError, Term

__all__ = ["Hit", "Query", "QueryError", "Searcher", "Term"]

_NOTHING = 1e-6  # length of a sum of terms that points nowhere
_LEAST = 32  # rows that are asked for, so that few different numbers of them are
_WIDEST = 1 << 15  # rows that are looked through for pictures that are no near copies
_MATCHED = 128  # pictures that are held at once to be matched


class Searcher:
    """Answers questions about an index.

    A picture of the index that is a term of a question (`picture_id`) is not among its own answers:
    "more like this" means others. A picture that is handed in (`image`) is no picture of the index,
    and if the index has the same one, that is found.

    Args:
        index: that is open.
        model: of it.
        engine: that finds vectors; None for the exact search over all.

    Attributes:
        index, model: the same.

    Raises:
        OtherModelError: the index is of another model.
    """

    def __init__(self, index: Index, model: Model, engine: Engine | None = None) -> None:
        known = index.about.origin
        origin = origin_of(model, model.name, known)
        known.require_same(origin, index.folder, "or make the index anew")
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
        vectors = self._vectors(queries)
        found: list[Any] = list(vectors)
        of_right = {n: v for n, v in enumerate(vectors) if isinstance(v, np.ndarray)}
        for numbers in _by_filter(queries, of_right).values():
            of_them = [queries[number] for number in numbers]
            asked = np.stack([of_right[number] for number in numbers])
            for number, ranked in zip(numbers, self._rank(of_them, asked), strict=True):
                found[number] = ranked
        self._rerank([(queries[number], found[number]) for number in of_right])
        for number in of_right:
            found[number] = found[number][: queries[number].top_k]
        return found

    def cut_texts(self, query: Query) -> list[str]:
        """The texts of a question that are longer than the model reads: their ends do not count."""
        texts = [term.text for term in query.terms if term.text is not None]
        tokenizer, length = self.model.tokenizer, self.model.text_length
        if tokenizer is None:
            return []
        return [text for text in texts if text_row(text, tokenizer, length).cut]

    def _vectors(self, queries: Sequence[Query]) -> list[np.ndarray | QueryError]:
        """What each question is compared with, float32 [D] of length 1."""
        terms = [term for query in queries for term in query.terms]
        texts = list(dict.fromkeys(term.text for term in terms if term.text is not None))
        of_text = dict(zip(texts, self.model.encode_text(texts), strict=True)) if texts else {}
        of_image = self._encode_images([term.image for term in terms if term.image is not None])

        def vector_of(term: Term) -> np.ndarray:
            if term.text is not None:
                return of_text[term.text]
            if term.picture_id is not None:
                return self._own_vector(term.picture_id)
            found = of_image[id(term.image)]
            if isinstance(found, BrokenInputError):
                raise QueryError(f"the picture {found.name} cannot be used: {found.reason}")
            return found

        return [_sum_or_error(query, vector_of) for query in queries]

    def _encode_images(self, images: Sequence[Any]) -> dict[int, np.ndarray | BrokenInputError]:
        """By the identity of an image, its vector, or what is wrong with it."""
        if not images:
            return {}
        broken: dict[int, BrokenInputError] = {}
        vectors = self.model.encode_image(
            images, on_error=lambda error: broken.update({error.position: error})
        )
        return {
            id(image): broken.get(number, vector)
            for number, (image, vector) in enumerate(zip(images, vectors, strict=True))
        }

    def _own_vector(self, picture_id: str) -> np.ndarray:
        try:
            row = self.index.pictures.row_of(picture_id)
        except NoPictureError as error:
            raise QueryError(str(error)) from error
        return np.asarray(self.index.vectors[row], np.float32)

    def _rank(self, queries: Sequence[Query], vectors: np.ndarray) -> list[list[Hit]]:
        """Hits of questions with the same filters: as many as will be shown or re-ranked."""
        first = queries[0]
        allowed = self.index.allowed(first.folder, first.since, first.until)
        most = min(_WIDEST, len(self.index) if allowed is None else int(allowed.sum()))
        # Pictures of the index that are terms take places, too.
        needed = max(_wanted(query) + len(query.terms) for query in queries)
        k = min(len(self.index), _round_up(needed))
        found = self._engine.top_k(vectors, k, allowed)
        ranked = []
        for number, query in enumerate(queries):
            hits = self._hits(query, found.scores[number], found.rows[number])
            wider = k
            while len(hits) < _wanted(query) and wider < most:  # duplicates have taken places
                wider = min(len(self.index), 4 * wider)
                again = self._engine.top_k(vectors[number : number + 1], wider, allowed)
                hits = self._hits(query, again.scores[0], again.rows[0])
            ranked.append(hits)
        return ranked

    def _hits(self, query: Query, scores: np.ndarray, rows: np.ndarray) -> list[Hit]:
        own = {term.picture_id for term in query.terms}
        real = rows >= 0
        scores, rows = scores[real], rows[real]
        pictures = self.index.pictures.at(rows)
        kept = [n for n, picture in enumerate(pictures) if picture.id not in own]
        hits = [Hit(pictures[n], float(scores[n])) for n in kept]
        if query.group_duplicates:
            vectors = np.asarray(self.index.vectors[rows[kept]], np.float32)
            hits = group(hits, vectors, _wanted(query))
        return hits[: _wanted(query)]

    def _rerank(self, ranked: Sequence[tuple[Query, list[Hit]]]) -> None:
        """Puts the best of each question in the order of the fusion encoder, in place."""
        asked = [(query, hits, hits[: query.rerank]) for query, hits in ranked if query.rerank]
        every = [(query, hit.picture.id) for query, _, best in asked for hit in best]
        probabilities: list[float] = []
        for begin in range(0, len(every), _MATCHED):
            probabilities += self._match(every[begin : begin + _MATCHED])
        found = iter(probabilities)
        for _, hits, best in asked:
            matched = [hit._replace(probability=next(found)) for hit in best]
            hits[: len(best)] = sorted(matched, key=lambda hit: -(hit.probability or 0.0))

    def _match(self, asked: Sequence[tuple[Query, str]]) -> list[float]:
        """How probable it is that each picture, by its id, shows what its question says."""
        images = self._read(list(dict.fromkeys(picture_id for _, picture_id in asked)))
        pairs = [(images[one], term.text) for query, one in asked for term in _texts(query)]
        matched = iter(self.model.match(*zip(*pairs, strict=True)))
        found = []
        for query, _ in asked:
            of_terms = [(term.weight, float(next(matched))) for term in _texts(query)]
            found.append(math.prod(p if weight > 0 else 1 - p for weight, p in of_terms))
        return found

    def _read(self, picture_ids: Sequence[str]) -> dict[str, np.ndarray]:
        """Pictures as the model reads them: of their files, or of their small copies where a file
        is gone, has changed or cannot be read.
        """
        sources: list[Any] = [self._source(one) for one in picture_ids]
        while True:
            try:
                images = self.model.preprocess(sources)
                return dict(zip(picture_ids, images, strict=True))
            except BrokenInputError as error:
                thumbnail = self.index.thumbnail(picture_ids[error.position])
                if sources[error.position] == thumbnail:
                    raise
                sources[error.position] = thumbnail

    def _source(self, picture_id: str) -> Any:
        try:
            return self.index.original(picture_id)
        except ChangedPictureError:
            return self.index.thumbnail(picture_id)


def _texts(query: Query) -> list[Term]:
    return [term for term in query.terms if term.text is not None]


def _wanted(query: Query) -> int:
    return max(query.top_k, query.rerank)


def _by_filter(queries: Sequence[Query], numbers: Iterable[int]) -> dict[Any, list[int]]:
    found: dict[Any, list[int]] = {}
    for number in numbers:
        query = queries[number]
        found.setdefault((query.folder, query.since, query.until), []).append(number)
    return found


def _sum_or_error(query: Query, vector_of: Any) -> np.ndarray | QueryError:
    try:
        total = np.sum([term.weight * vector_of(term) for term in query.terms], axis=0)
        length = float(np.linalg.norm(total))
        if length < _NOTHING:
            raise QueryError("the terms cancel each other out; change a weight or leave one out")
    except QueryError as error:
        return error
    return (total / length).astype(np.float32)


def _round_up(k: int) -> int:
    """To a power of two: a program is compiled for each number of rows."""
    return max(_LEAST, 1 << (k - 1).bit_length())
