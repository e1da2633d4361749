import json
import tracemalloc

import pytest

from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers import json_lists

DOCUMENT = {
    "info": {"year": 2014, "images": [1]},
    "images": [{"id": 1, "name": "a \u00e9 \U0001f600"}, {}, [], "x", -1.5e3, True, None],
    "none": [],
    "annotations": [[1, [2, {"b": "]}"}]], 12],
}


def _write(tmp_path, text, name="a.json"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("chunk", [1, 7, 2**20])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_lists_are_read_whatever_the_window(tmp_path, monkeypatch, chunk, indent, ascii_only):
    monkeypatch.setattr(json_lists, "CHUNK", chunk)
    text = json.dumps(DOCUMENT, indent=indent, ensure_ascii=ascii_only)
    path = _write(tmp_path, "\ufeff" + text + "\r\n")
    items = list(json_lists.read_items(path, "images", "none", "annotations"))
    assert [item.value for item in items if item.name == "images"] == DOCUMENT["images"]
    assert [item.value for item in items if item.name == "annotations"] == DOCUMENT["annotations"]
    assert len(items) == 9
    own = _write(tmp_path, json.dumps(DOCUMENT["images"], indent=indent), "b.json")
    assert [item.value for item in json_lists.read_items(own)] == DOCUMENT["images"]


@pytest.mark.parametrize("indent", [None, 1])
def test_a_long_list_takes_the_memory_of_a_window(tmp_path, monkeypatch, indent):
    monkeypatch.setattr(json_lists, "CHUNK", 2**12)
    entry = {"id": 1, "regions": [{"phrase": "a b c", "x": k} for k in range(20)]}
    path = _write(tmp_path, json.dumps([entry] * 2000, indent=indent))
    assert path.stat().st_size > 2**20
    tracemalloc.start()
    try:
        number = sum(1 for _ in json_lists.read_items(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert number == 2000
    assert peak < 2**17


def test_an_entry_says_where_it_stands(tmp_path):
    path = _write(tmp_path, '[\n1,\n{"a":\n2}, 3]')
    wheres = [item.where.removeprefix(str(path)) for item in json_lists.read_items(path)]
    assert wheres == [" line 2, entry 1", " line 3, entry 2", " line 4, entry 3"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is no JSON but an empty file"),
        ("<html><body>404", "is no JSON but an HTML page"),
        ('{"a": [1]}', "line 1 holds an object where a list must be"),
        ("[1,\n2,\n{1}]", "line 3 is no JSON: Expecting property name"),
        ('[{"a": 1},\n{"a": tru}]', "line 2 is no JSON: Expecting value"),
        ("[1 2]", "line 1 is no JSON: ',' is missing"),
        ("[1, 2,\n]", "line 2 is no JSON: nothing follows a comma"),
        ("[1, 2]\n[3]", "line 2 goes on behind its end"),
        ('[{"a": "b\n"}]', "line 1 is no JSON: Invalid control character"),
        ('[\n{"a": "bc', "is cut: it ends in line 2"),
        ('[{"a": 1', "is cut: it ends in line 1"),
        ("[1,\n\n", "is cut: it ends in line 3"),
        ("[" * 100_000, "cannot be read"),
        (f"[{'9' * 5000}]", "cannot be read"),
    ],
)
@pytest.mark.parametrize("chunk", [3, 2**20])
def test_broken_json_names_file_and_line(tmp_path, monkeypatch, text, message, chunk):
    monkeypatch.setattr(json_lists, "CHUNK", chunk)
    path = _write(tmp_path, text)
    with pytest.raises(DataError) as error:
        list(json_lists.read_items(path))
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 400


@pytest.mark.parametrize(
    "text, message",
    [
        ("[1]", "holds a list where an object with the list images must be"),
        ('{"annotations": [1]}', "has no list 'images', only"),
        ('{"images": {}}', "has no list at 'images'"),
        ('{"images": [1], "images": [2]}', "has the key 'images', .* twice"),
        ('{"images": [1], 3: 4}', "has the key 3, which is no text"),
    ],
)
def test_a_file_without_the_list_is_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        list(json_lists.read_items(_write(tmp_path, text), "images"))


def test_other_files_are_called_what_they_are(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\x1f\x8b\x08\0\xff\xfe")
    with pytest.raises(DataError, match="no JSON but a gzip archive; unpack it first"):
        list(json_lists.read_items(path))
    path.write_bytes('["é"]'.encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8 soon after line 1"):
        list(json_lists.read_items(path))
    with pytest.raises(MissingDataError, match="no such file"):
        list(json_lists.read_items(tmp_path / "b.json"))


@pytest.mark.parametrize(
    "item, message",
    [
        ([1], "X is .1., where an object must be"),
        ({"b": 1}, "X has no key id or image_id, only"),
        ({"id": None}, "X has id=None, which is no whole number"),
        ({"id": True}, "no whole number"),
        ({"id": 1.5}, "no whole number"),
        ({"id": "1a"}, "no whole number"),
    ],
)
def test_members_must_be_what_they_should(item, message):
    with pytest.raises(DataError, match=message):
        json_lists.get(item, ("id", "image_id"), int, "X")


def test_members_are_found():
    assert json_lists.get({"id": "017"}, ("image_id", "id"), int, "X") == 17
    assert json_lists.get({"image_id": 5, "id": 6}, ("image_id", "id"), int, "X") == 5
    for name in ("", " ", "a\0b", "a\tb", "a\n"):
        with pytest.raises(DataError, match="no name"):
            json_lists.get({"name": name}, "name", str, "X")


def test_a_member_beside_lists_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lists, "CHUNK", 7)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"questions": [{"id": 1}] * 9, "x": {}, "license": {"name": "A"}}))
    assert json_lists.read_member(path, "license") == {"name": "A"}
    assert json_lists.read_member(path, "none") is None
    path.write_text('{"questions": [1, 2')
    with pytest.raises(DataError, match="is cut: it ends in line 1"):
        json_lists.read_member(path, "license")
