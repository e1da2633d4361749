"""Questions are answered: terms add up, filters hold, near copies are one, the best are matched."""

import datetime

import numpy as np
import pytest
from PIL import Image

from tests.search.worlds import StubEngine, StubModel, draw, update
from vlmo_jax.inference.inputs import BrokenInputError
from vlmo_jax.search import open_index
from vlmo_jax.search.about import OtherModelError
from vlmo_jax.search.queries import Query, QueryError, Searcher, Term


class ReadingModel(StubModel):
    """Encodes what people hand in, too."""

    def encode_image(self, images, *, on_error="raise"):
        squares = []
        for position, image in enumerate(images):
            try:
                if not isinstance(image, Image.Image | np.ndarray):
                    image = Image.open(image).convert("RGB")
                squares.append(np.asarray(Image.fromarray(np.asarray(image)).resize((8, 8), 3)))
            except OSError as error:
                on_error(BrokenInputError(position, str(image), error))
                squares.append(np.zeros((8, 8, 3)))
        return super().encode_image(squares)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(40):
        draw(folder / f"{'ab'[number % 2]}/{number:02d}.png", number)
    draw(folder / "a/00_copy.png", 0)
    draw(folder / "b/00_smaller.jpg", 0, size=(24, 20))
    return folder


@pytest.fixture(scope="module")
def searcher(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("indices") / "index"
    update(pictures, folder, ReadingModel())
    with open_index(folder) as index:
        yield Searcher(index, ReadingModel(), StubEngine(index.vectors))


def ids(searcher):
    return {one.path: one.id for one in searcher.index.pictures}


def vector(searcher, path):
    return searcher.index.vectors[searcher.index.pictures.row_of(ids(searcher)[path])]


def test_terms_add_up_by_their_weights(searcher):
    wanted = 2 * vector(searcher, "a/02.png") - 0.5 * vector(searcher, "b/03.png")
    wanted += searcher.model.encode_text(["cat"])[0]
    wanted /= np.linalg.norm(wanted)
    terms = [
        Term(2.0, picture_id=ids(searcher)["a/02.png"]),
        Term(-0.5, picture_id=ids(searcher)["b/03.png"]),
        Term(text="cat"),
    ]
    hits = searcher.search(Query(terms, top_k=5))
    scores = searcher.index.vectors @ wanted
    own = [searcher.index.pictures.row_of(term.picture_id) for term in terms[:2]]
    order = [row for row in np.argsort(-scores) if row not in own][:5]
    assert [hit.picture for hit in hits] == searcher.index.pictures.at(order)
    assert np.allclose([hit.score for hit in hits], scores[order], atol=1e-6)
    assert all(hit.probability is None and not hit.duplicates for hit in hits)


def test_a_picture_of_the_index_is_not_its_own_answer_and_a_file_is(searcher, pictures):
    path = "a/04.png"
    by_id = searcher.search(Query([Term(picture_id=ids(searcher)[path])], top_k=100))
    assert len(by_id) == len(searcher.index) - 1 and path not in {h.picture.path for h in by_id}
    for image in (pictures / path, Image.open(pictures / path).convert("RGB")):
        first = searcher.search(Query([Term(image=image)], top_k=1))[0]
        assert first.picture.path == path and first.score == pytest.approx(1, abs=1e-5)


def test_filters_leave_only_what_they_allow(searcher):
    hits = searcher.search(Query([Term(text="x")], top_k=100, folder="a"))
    assert {hit.picture.folder for hit in hits} == {"a"} and len(hits) == 21
    assert not searcher.search(Query([Term(text="x")], since=datetime.date(1990, 1, 1)))


def test_duplicates_count_once_and_are_named(searcher):
    first = Term(picture_id=ids(searcher)["a/00.png"])
    terms = [Term(image=searcher.index.root / "a/00.png")]
    alone = searcher.search(Query(terms, top_k=3))
    assert [hit.picture.path for hit in alone[:2]] == ["a/00.png", "a/00_copy.png"]
    grouped = searcher.search(Query(terms, top_k=3, group_duplicates=True))
    assert [one.path for one in grouped[0].duplicates] == ["a/00_copy.png", "b/00_smaller.jpg"]
    assert len(grouped) == 3 and not grouped[1].duplicates
    everything = searcher.search(Query(terms, top_k=100, group_duplicates=True))
    assert sum(1 + len(hit.duplicates) for hit in everything) == len(searcher.index)
    like = searcher.search(Query([first], top_k=1, group_duplicates=True))[0]
    assert like.picture.path == "a/00_copy.png"


def test_duplicates_that_fill_the_places_make_room(pictures, tmp_path):
    for number in range(50):
        draw(tmp_path / f"pictures/same{number}.png", 1)
    draw(tmp_path / "pictures/other.png", 2)
    update(tmp_path / "pictures", tmp_path / "index", ReadingModel())
    with open_index(tmp_path / "index") as index:
        searcher = Searcher(index, ReadingModel(), StubEngine(index.vectors))
        image = tmp_path / "pictures/same0.png"
        query = Query([Term(image=image)], top_k=2, group_duplicates=True)
        hits = searcher.search(query)
    assert [hit.picture.path for hit in hits] == ["same0.png", "other.png"]
    assert len(hits[0].duplicates) == 49


def test_the_best_are_matched_and_ordered_by_it(searcher):
    plain = searcher.search(Query([Term(text="x")], top_k=10))
    hits = searcher.search(Query([Term(text="x")], top_k=10, rerank=4))
    probabilities = [hit.probability for hit in hits]
    assert probabilities[:4] == sorted(probabilities[:4], reverse=True)
    assert {h.picture.id for h in hits[:4]} == {h.picture.id for h in plain[:4]}
    assert [h.picture.id for h in hits[4:]] == [h.picture.id for h in plain[4:]]
    assert probabilities[4:] == [None] * 6
    paths = [searcher.index.root / hit.picture.path for hit in hits[:4]]
    assert np.allclose(probabilities[:4], searcher.model.match(paths, ["x"] * 4))


def test_more_can_be_matched_than_shown(searcher):
    hits = searcher.search(Query([Term(text="x")], top_k=1, rerank=42))
    red = searcher.search(Query([Term(text="x")], top_k=42, rerank=42))
    assert len(hits) == 1 and hits[0] == red[0]
    assert hits[0].probability == max(hit.probability for hit in red)


def test_texts_that_are_taken_away_must_not_match(searcher):
    terms = [Term(text="x"), Term(-1.0, text="y"), Term(image=searcher.index.root / "a/00.png")]
    one = searcher.search(Query(terms, top_k=1, rerank=1))[0]
    p = searcher.model.match([searcher.index.root / one.picture.path], ["x"])[0]
    assert one.probability == pytest.approx(p * (1 - p), rel=1e-5)


def test_a_file_that_is_gone_is_matched_by_its_small_copy(tmp_path):
    path = draw(tmp_path / "pictures/a.png", 0)
    update(tmp_path / "pictures", tmp_path / "index", ReadingModel())
    with open_index(tmp_path / "index") as index:
        searcher = Searcher(index, ReadingModel(), StubEngine(index.vectors))
        query = Query([Term(text="x")], rerank=5)
        before = searcher.search(query)[0].probability
        path.unlink()
        assert searcher.search(query)[0].probability == pytest.approx(before, abs=0.05)


def test_a_file_that_breaks_meanwhile_is_matched_by_its_small_copy(searcher, monkeypatch):
    query = Query([Term(text="x")], top_k=3, rerank=3)
    before = searcher.search(query)
    preprocess, broken = searcher.model.preprocess, before[1].picture.path

    def refuse(images):
        for position, image in enumerate(images):
            if str(image).endswith(broken):
                raise BrokenInputError(position, str(image), "it is broken")
        return preprocess(images)

    monkeypatch.setattr(searcher.model, "preprocess", refuse)
    found = {hit.picture.path: hit.probability for hit in searcher.search(query)}
    for hit in before:
        assert found[hit.picture.path] == pytest.approx(hit.probability, abs=0.05)


def test_many_questions_are_answered_as_each_alone(searcher, pictures):
    queries = [
        Query([Term(text="x")], top_k=3),
        Query([Term(image=pictures / "gone.png")]),
        Query([Term(text="x"), Term(-1.0, text="x")]),
        Query([Term(picture_id="0" * 16)]),
        Query([Term(text="y"), Term(image=pictures / "a/02.png")], folder="b", rerank=3),
        Query([Term(picture_id=ids(searcher)["a/00.png"])], group_duplicates=True),
    ]
    found = searcher.search_many(queries)
    reasons = ["gone.png cannot be used", "cancel each other out", "has no picture '0000"]
    for number, reason in zip((1, 2, 3), reasons):
        assert isinstance(found[number], QueryError) and reason in str(found[number])
        with pytest.raises(QueryError, match=reason):
            searcher.search(queries[number])
    for number in (0, 4, 5):
        alone = searcher.search(queries[number])
        assert [hit.picture for hit in alone] == [hit.picture for hit in found[number]]
        assert np.allclose([h.score for h in alone], [h.score for h in found[number]], atol=1e-6)


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: Query([]), "nothing to look for"),
        (lambda: Query([Term(text="x")], top_k=0), "top_k=0 must be 1 to"),
        (lambda: Query([Term(text="x")], rerank=10**6), "rerank=1000000 must be 0 to"),
        (lambda: Query([Term(picture_id="x")], rerank=5), "compares pictures with texts"),
        (
            lambda: Query(
                [Term(text="x")], since=datetime.date(2022, 1, 1), until=datetime.date(2021, 1, 1)
            ),
            "since=2022-01-01 is after",
        ),
        (lambda: Term(text=" \n"), "empty text"),
        (lambda: Term(), "it has 0"),
        (lambda: Term(text="x", image=b"y"), "it has 2"),
        (lambda: Term(0.0, text="x"), "other than 0"),
        (lambda: Term(float("nan"), text="x"), "other than 0"),
    ],
)
def test_what_cannot_be_asked_says_why(make, reason):
    with pytest.raises(QueryError, match=reason):
        make()


def test_another_model_is_refused(searcher):
    with pytest.raises(OtherModelError, match="was made with /models/stub .*stub/checkpoints/3"):
        Searcher(searcher.index, StubModel(fingerprint="00" * 32))
