"""ViLBERT's LMDB becomes records of regions; nothing in its pickles runs, and what disagrees is
named.
"""

import base64
import json
import os
import pickle

import lmdb
import numpy as np
import pytest

from vlmo_jax.datasets import open_region_source
from vlmo_jax.datasets.building.formats import build_format
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.protocol import LeftOutError
from vlmo_jax.datasets.readers.vilbert_lmdb import VilbertLmdbReader

REGIONS, WIDTH, CLASSES = 3, 6, 4


def item(seed, **changes):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (REGIONS, 2))
    classes = rng.random((REGIONS, CLASSES))
    return {
        "image_id": str(seed),
        "image_h": 100,
        "image_w": 120,
        "num_boxes": REGIONS,
        "boxes": np.concatenate([corner, corner + 30], 1).astype(np.float32),
        "features": rng.normal(size=(REGIONS, WIDTH)).astype(np.float32),
        "cls_prob": (classes / classes.sum(1, keepdims=True)).astype(np.float32),
    } | changes


def in_base64(entry):
    """The other official form."""
    coded = {name: base64.b64encode(entry[name]) for name in ("features", "boxes", "cls_prob")}
    return {**entry, **coded, "image_h": "100"}


def write(folder, items, rows, name="all_data_final_train_2014.jsonline"):
    folder.mkdir(exist_ok=True)
    with (
        lmdb.open(str(folder / "flickr30k.lmdb"), map_size=2**22) as env,
        env.begin(write=True) as t,
    ):
        for key, value in {"keys": [key.encode() for key in items], **items}.items():
            t.put(key.encode(), value if isinstance(value, bytes) else pickle.dumps(value))
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def rows(*keys):
    return [{"sentences": [f"a picture of {key}", " "], "id": int(key)} for key in keys]


def test_records_of_regions_are_built(tmp_path):
    items = {"11": item(11), "12": in_base64(item(12))}
    source = write(tmp_path / "in", items, rows("11", "12"))
    test = [{"sentences": ["another"], "id": 5, "img_path": "folder/11.jpg"}]
    write(source, items, test, "all_data_final_test_set0_2014.jsonline")
    reader = VilbertLmdbReader(source)
    found = {(e.split, e.record_id): reader.load(e) for e in reader.entries()}
    assert set(found) == {
        ("train", "flickr30k/11"),
        ("train", "flickr30k/12"),
        ("test", "flickr30k/11"),
    }
    assert found["train", "flickr30k/12"].texts == ("a picture of 12",)
    for key in ("11", "12"):
        record, whole = found["train", f"flickr30k/{key}"], item(int(key))
        for ours, theirs in (("features",) * 2, ("boxes",) * 2, ("classes", "cls_prob")):
            np.testing.assert_array_equal(getattr(record, ours), whole[theirs])
        assert (record.width, record.height) == (120, 100)


def test_the_command_makes_a_data_set(tmp_path):
    source = write(tmp_path / "in", {"11": item(11), "12": item(12)}, rows("11", "12"))
    reader = VilbertLmdbReader(source)
    entries = list(reader.entries())
    build_format(reader, source, tmp_path / "out", asked={"format": "vilbert_lmdb"})
    records = open_region_source(str(tmp_path / "out"), "train")
    assert [record.image_id for record in records] == [entry.record_id for entry in entries]
    np.testing.assert_array_equal(records[1].features, item(12)["features"])
    np.testing.assert_array_equal(records[1].classes, item(12)["cls_prob"])


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile",)


nan = np.full((REGIONS, WIDTH), np.nan, np.float32)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(num_boxes=2), "num_boxes=2 and 3 boxes"),
        (dict(features=nan), "NaN"),
        (dict(features=np.zeros((2, WIDTH), np.float32)), "3 boxes and features of shape"),
        (dict(features=np.zeros((REGIONS, 5), np.float32)), "5 numbers .* the first of the LMDB 6"),
        (dict(features="no base64!"), "no base64"),
        (dict(features=None), "no array of numbers"),
        (dict(image_w=20), "within 20 x 100"),
        (dict(image_h="tall"), "image_h=tall"),
        (dict(boxes=np.zeros(7, np.float32)), "boxes of 7 numbers"),
        (dict(extra=Hostile()), "asks for .*system, .* was not run"),
    ],
)
def test_entries_that_disagree_are_left_out_by_name(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    items = {"11": item(11), "12": item(12, **changes)}
    reader = VilbertLmdbReader(write(tmp_path / "in", items, rows("11", "12")))
    first, second = reader.entries()
    reader.load(first)
    with pytest.raises(LeftOutError, match=f"flickr30k.lmdb entry 12.*{message}"):
        reader.load(second)
    assert not os.path.exists("hostile")


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match=r"has no \*.lmdb"):
        VilbertLmdbReader(tmp_path)
    source = write(tmp_path / "a", {"11": item(11)}, rows("11", "13"))
    reader = VilbertLmdbReader(source)
    assert len(list(reader.entries())) == 1
    assert reader.left_out() == {"all_data_final_train_2014/13": "no entry 13 in the LMDB"}
    with pytest.raises(DataError, match="keys asks for .*system"):
        VilbertLmdbReader(write(tmp_path / "b", {"keys": Hostile()}, rows("11")))
    with pytest.raises(DataError, match="entry 11 is no dict but list"):
        VilbertLmdbReader(write(tmp_path / "c", {"11": [1]}, rows("11")))
    source = write(tmp_path / "d", {"11": item(11)}, [{"sentences": ["a"]}])
    with pytest.raises(DataError, match="line 1 has neither img_path nor id"):
        list(VilbertLmdbReader(source).entries())
    (tmp_path / "e").mkdir()
    (tmp_path / "e/x.lmdb").write_bytes(b"no LMDB" * 1000)
    (tmp_path / "e/x.jsonl").write_text("")
    with pytest.raises(DataError, match="cannot be opened as an LMDB"):
        VilbertLmdbReader(tmp_path / "e")
