"""What a server answers."""

import datetime
import io
import json
import urllib.parse

import pytest
from PIL import Image

from tests.search.server.conftest import COLORS, serving
from vlmo_jax.search.questions import Query, Term


@pytest.fixture(scope="module")
def client(searcher):
    with serving(searcher) as client:
        yield client


def found(client, **asked):
    answer = client.ask("/search?" + urllib.parse.urlencode(asked, doseq=True))
    assert answer.status == 200, answer.text
    return answer.json


def id_of(client, path):
    [picture] = [one for one in found(client)["results"] if one["path"] == path]
    return picture["id"]


def test_texts_find_what_the_searcher_finds(client, searcher):
    answer = found(client, text="a red picture", without="blue", count=5)
    terms = [Term(text="a red picture"), Term(-1.0, text="blue")]
    wanted = searcher.search(Query(terms, top_k=5))
    assert [one["id"] for one in answer["results"]] == [hit.picture.id for hit in wanted]
    assert [one["score"] for one in answer["results"]] == pytest.approx(
        [hit.score for hit in wanted], abs=1e-5
    )
    first, picture = answer["results"][0], wanted[0].picture
    assert (first["path"], first["caption"]) == (picture.path, picture.caption)
    assert (first["width"], first["height"]) == (picture.width, picture.height)
    assert first["probability"] is None and answer["next"] == 5


def test_a_text_that_is_cut_is_named(client):
    long = "a very red picture " * 20
    answer = found(client, text=[long, "red"])
    assert answer["cut"] == [long.strip()] and found(client, text="red")["cut"] == []


def test_pages_follow_each_other_and_end(client):
    whole = [one["id"] for one in found(client, text="green")["results"]]
    pages, skip = [], 0
    while skip is not None:
        page = found(client, text="green", skip=skip, count=3)
        pages += [one["id"] for one in page["results"]]
        skip = page["next"]
    assert len(whole) == 8 and pages == whole


def test_pictures_without_a_query_come_newest_first(client):
    days = [one["taken"] for one in found(client)["results"]]
    assert days == ["2024-04-15", "2024-03-15", "2024-02-15", "2024-01-15", None, None, None, None]


def test_filters_hold_for_queries_and_without(client):
    about = client.ask("/about").json
    assert about["folders"] == [
        {"name": "sub", "pictures": 4},
        {"name": "sub/deep", "pictures": 2},
    ]
    assert (about["first_taken"], about["last_taken"]) == ("2024-01-15", "2024-04-15")
    for terms in ({}, {"text": "red"}):
        inside = found(client, folder="sub/deep", **terms)["results"]
        assert {one["path"] for one in inside} == {"sub/deep/red.jpg", "sub/deep/blue.jpg"}
        spring = found(client, since="2024-02-01", until="2024-03-31", **terms)["results"]
        assert {one["taken"] for one in spring} == {"2024-02-15", "2024-03-15"}


def test_more_like_one_picture_and_less_like_another(client):
    red, blue = id_of(client, "red.jpg"), id_of(client, "blue.jpg")
    answer = found(client, like=red)
    assert answer["results"][0]["path"] == "sub/deep/red.jpg"  # and not itself
    assert answer["pictures"] == [{"kind": "like", "id": red, "name": "a red picture"}]
    less = found(client, like=red, unlike=blue)
    assert red not in {one["id"] for one in less["results"]}
    assert [one["score"] for one in less["results"]] != [one["score"] for one in answer["results"]]


def test_the_match_is_judged_where_it_is_asked(client):
    answer = found(client, text="a red picture", rerank=4)["results"]
    judged = [one["probability"] for one in answer]
    assert all(0 <= one <= 1 for one in judged[:4]) and judged[:4] == sorted(judged[:4])[::-1]
    assert judged[4:] == [None] * 4


def test_an_uploaded_picture_is_searched_by_and_can_be_asked_again(client, index_folder):
    data = (index_folder / "pictures" / "green.jpg").read_bytes()
    led = client.upload(data, "/search?folder=sub&count=2")
    assert led.status == 303
    address = led.headers["location"]
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(address).query)
    assert (asked["folder"], asked["count"]) == (["sub"], ["2"])
    first, again = client.ask(address).json, client.ask(address).json
    assert first["results"] == again["results"]
    assert first["results"][0]["path"] == "sub/green.jpg" and len(first["results"]) == 2
    shown = client.ask(f"/uploads/{asked['upload'][0]}")
    assert Image.open(io.BytesIO(shown.body)).size == (60, 40)


def test_pictures_are_shown_by_id(client, index_folder):
    for one in found(client)["results"]:
        small, whole = client.ask(one["thumbnail"]), client.ask(one["original"])
        assert small.headers["content-type"] == whole.headers["content-type"] == "image/jpeg"
        assert "immutable" in small.headers["cache-control"]
        assert Image.open(io.BytesIO(small.body)).size == (one["width"], one["height"])
        assert whole.body == (index_folder / "pictures" / one["path"]).read_bytes()


def test_the_interface_describes_itself(client):
    description = client.ask("/openapi.json").json
    assert set(description["paths"]) == {
        "/search",
        "/pictures/{picture_id}/thumbnail",
        "/pictures/{picture_id}/original",
        "/uploads/{upload_id}",
        "/about",
        "/health",
        "/metrics",
    }
    asked = {one["name"]: one for one in description["paths"]["/search"]["get"]["parameters"]}
    assert asked["count"]["schema"]["maximum"] == 100 and "description" in asked["text"]
    form = description["paths"]["/search"]["post"]["requestBody"]["content"]
    assert list(form) == ["multipart/form-data"]


def test_the_page_comes_with_all_it_needs_and_may_fetch_nothing_else(client):
    for path, kind in (("/", "html"), ("/page.css", "css"), ("/page.js", "javascript")):
        answer = client.ask(path)
        assert answer.status == 200 and kind in answer.headers["content-type"]
        assert b"http://" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"https://" not in answer.body
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


def test_health_and_metrics_tell_how_it_is(client):
    health = client.ask("/health").json
    assert (health["status"], health["pictures"], health["waiting"]) == ("ok", 8, 0)
    found(client, text="counted")
    text = client.ask("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['vlmo_requests_total{route="/search",status="200"}']) >= 1
    assert float(lines["vlmo_batch_queries_count"]) >= 1
    assert float(lines["vlmo_pictures"]) == 8 and float(lines["vlmo_search_seconds_sum"]) > 0
    assert "process_resident_memory_bytes" in lines


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("textt=red", "textt: Extra inputs are not permitted"),
        ("text=red&count=101", "count: Input should be less than or equal to 100"),
        ("text=" + "a" * 1001, "at most 1000 characters"),
        ("&".join(f"text={n}" for n in range(9)), "9 texts and pictures are too many; at most 8"),
        ("text=%20", "at least 1 character"),
        ("rerank=5", "rerank compares pictures with texts, and there is none"),
        ("since=2024-02-30", "since: Input should be a valid date"),
        ("since=2024-03-01&until=2024-02-01", "since=2024-03-01 is after until=2024-02-01"),
        ("text=red&without=red", "cancel each other out"),
        ("like=../../etc/passwd", "like.0: String should match pattern"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(client, query, says):
    answer = client.ask(f"/search?{query}")
    assert answer.status == 422 and says in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


def test_an_unknown_picture_is_404_and_a_forgotten_one_410(client):
    assert client.ask("/search?like=0123456789abcdef").status == 404
    for path in ("/search?upload=nothing", "/uploads/nothing"):
        answer = client.ask(path)
        assert answer.status == 410 and "Drop it here once more" in answer.text


def test_a_changed_file_is_not_shown(client, index_folder):
    path = index_folder / "pictures" / "black.jpg"
    before, address = path.read_bytes(), f"/pictures/{id_of(client, 'black.jpg')}/original"
    path.write_bytes(b"something else")
    try:
        answer = client.ask(address)
        assert answer.status == 404 and "moved or changed" in answer.text
    finally:
        path.write_bytes(before)


def test_dates_and_names_are_plain_json(client):
    text = client.ask("/search?text=red").text
    for one in json.loads(text)["results"]:
        assert one["taken"] is None or datetime.date.fromisoformat(one["taken"])
        assert one["name"].removesuffix(".jpg") in COLORS
