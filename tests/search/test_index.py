"""An index that is open: refuses what does not go together, and hands out its own files only."""

import datetime
import io
import json
import os
import sqlite3

import numpy as np
import pytest
from PIL import Image

from tests.search.worlds import age, draw, update
from vlmo_jax.search import about, open_index
from vlmo_jax.search import index as index_module
from vlmo_jax.search.about import DamagedIndexError, NoIndexError
from vlmo_jax.search.index import ChangedPictureError
from vlmo_jax.search.pictures import NoPictureError


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    for number, day in enumerate(("2020:01:02", "2021:06:07", None, "2021:06:08")):
        exif = Image.Exif()
        exif[0x0112] = 1  # Pillow writes none to a PNG that has parts of it alone
        if day:
            exif.get_ifd(0x8769)[0x9003] = f"{day} 10:00:00"
        name = ("0.png", "a/1.png", "a/b/2.png", "ab/3.png")[number]
        age(draw(folder / name, number, exif=exif))
    return folder


@pytest.fixture
def folder(pictures, tmp_path):
    update(pictures, tmp_path / "index")
    return tmp_path / "index"


def test_pictures_are_a_sequence_with_ids_that_stay(folder, pictures, tmp_path):
    with open_index(folder) as index:
        assert [one.path for one in index.pictures] == ["0.png", "a/1.png", "a/b/2.png", "ab/3.png"]
        assert [one.path for one in index.pictures[1:3]] == ["a/1.png", "a/b/2.png"]
        assert index.pictures[-1] == index.pictures[3] == index.pictures.at([3])[0]
        assert index.pictures.at([2, 0, 2])[2].path == "a/b/2.png"
        one = index.pictures[1]
        assert (one.folder, one.taken, one.width, one.height) == (
            "a",
            datetime.date(2021, 6, 7),
            12,
            10,
        )
        assert one.mtime == pytest.approx(os.stat(pictures / one.path).st_mtime, abs=1e-3)
        with pytest.raises(IndexError):
            index.pictures[4]
        ids = {picture.path: picture.id for picture in index.pictures}
    (pictures / "0.png").unlink()
    update(pictures, folder)
    with open_index(folder) as index:
        assert all(ids[picture.path] == picture.id for picture in index.pictures)
        assert index.pictures[index.pictures.row_of(ids["ab/3.png"])].path == "ab/3.png"
        with pytest.raises(NoPictureError, match="it may be gone since"):
            index.thumbnail(ids["0.png"])


def test_thumbnails_are_small_jpegs(folder, pictures):
    draw(pictures / "wide.png", 9, size=(800, 200))
    update(pictures, folder)
    with open_index(folder) as index:
        sizes = {
            one.path: Image.open(io.BytesIO(index.thumbnail(one.id))).size for one in index.pictures
        }
    assert sizes["wide.png"] == (320, 80) and sizes["0.png"] == (12, 10)


def test_originals_are_the_indexs_own_files(folder, pictures, tmp_path):
    secret = draw(tmp_path / "secret.png", 1)
    with open_index(folder) as index:
        first, second, third, fourth = (one.id for one in index.pictures)
        assert index.original(first) == pictures / "0.png"
        for strange in ("../secret.png", "", "0" * 16, "x" * 10_000):
            with pytest.raises(NoPictureError):
                index.original(strange)
        (pictures / "0.png").write_bytes(b"other")
        with pytest.raises(ChangedPictureError, match="has changed"):
            index.original(first)
        (pictures / "a/1.png").unlink()
        with pytest.raises(ChangedPictureError, match="is gone"):
            index.original(second)
        found = os.stat(pictures / "a/b/2.png")
        (pictures / "a/b/2.png").unlink()
        secret.write_bytes(b"\0" * found.st_size)
        os.utime(secret, ns=(found.st_atime_ns, found.st_mtime_ns))
        (pictures / "a/b/2.png").symlink_to(secret)
        with pytest.raises(ChangedPictureError, match="leads elsewhere"):
            index.original(third)
        assert index.original(fourth) == pictures / "ab/3.png"


def test_a_link_that_was_indexed_leads_where_it_did(folder, pictures, tmp_path):
    outside = draw(tmp_path / "outside/one.png", 5)
    (pictures / "link.png").symlink_to(outside)
    update(pictures, folder)
    with open_index(folder) as index:
        one = next(picture for picture in index.pictures if picture.path == "link.png")
        assert index.original(one.id) == outside
        (pictures / "link.png").unlink()
        (pictures / "link.png").symlink_to(tmp_path / "secret")
        (tmp_path / "secret").write_bytes(b"x")
        with pytest.raises(ChangedPictureError, match="leads elsewhere"):
            index.original(one.id)


@pytest.mark.parametrize(
    "filters, rows",
    [
        ({}, None),
        ({"folder": ""}, [0, 1, 2, 3]),
        ({"folder": "a"}, [1, 2]),
        ({"folder": "a/b/"}, [2]),
        ({"folder": "gone"}, []),
        ({"since": datetime.date(2021, 6, 7)}, [1, 3]),
        ({"until": datetime.date(2021, 6, 7)}, [0, 1]),
        ({"since": datetime.date(2020, 1, 2), "until": datetime.date(2020, 1, 2)}, [0]),
        ({"folder": "ab", "since": datetime.date(2000, 1, 1)}, [3]),
    ],
)
def test_filters_say_which_rows_are_left(folder, filters, rows):
    with open_index(folder) as index:
        allowed = index.allowed(**filters)
        assert allowed is None if rows is None else list(np.flatnonzero(allowed)) == rows


def test_no_index_says_how_to_make_one(tmp_path):
    with pytest.raises(NoIndexError, match="python -m vlmo_jax.search index PICTURES .*nowhere"):
        open_index(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(NoIndexError, match="is a file"):
        open_index(tmp_path / "file")


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _drop_a_row(path):
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM pictures WHERE row = 1")


def _other_vectors(path):
    np.save(path, np.load(path)[:-1])


def _other_facts(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE facts SET value = 'other'")


def _future(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))


@pytest.mark.parametrize(
    "name, spoil, why",
    [
        ("index.json", _cut, "cut or damaged"),
        ("index.json", lambda path: path.write_text("{}"), "of no index"),
        ("index.json", _future, "is of format 2, and this version reads 1"),
        ("generations/000001/vectors.npy", _cut, "cut or damaged"),
        ("generations/000001/vectors.npy", lambda path: path.unlink(), "is missing"),
        ("generations/000001/vectors.npy", _other_vectors, "3 vectors and 4 pictures for 4 rows"),
        ("generations/000001/pictures.sqlite", _cut, "cut or damaged"),
        ("generations/000001/pictures.sqlite", lambda path: path.unlink(), "is missing"),
        ("generations/000001/pictures.sqlite", _drop_a_row, "4 vectors and 3 pictures"),
        ("generations/000001/pictures.sqlite", _other_facts, "not those of its vectors"),
        ("thumbnails/000001.bin", lambda path: path.unlink(), "is missing"),
    ],
)
def test_files_that_do_not_go_together_are_refused(folder, name, spoil, why):
    spoil(folder / name)
    with pytest.raises(DamagedIndexError, match=f"{why}.*make it anew: python -m .*--restart"):
        open_index(folder)


def test_an_index_that_is_swapped_while_it_is_opened_is_opened_as_it_is_then(
    folder, pictures, monkeypatch
):
    before = about.read_about(folder)
    draw(pictures / "new.png", 8)
    update(pictures, folder)
    stale, read = [before], index_module.read_about
    monkeypatch.setattr(
        index_module, "read_about", lambda path: stale.pop() if stale else read(path)
    )
    with open_index(folder) as index:
        assert len(index) == 5 and not stale


def test_it_is_read_where_nothing_can_be_written(folder):
    names = sorted(path for path in folder.rglob("*"))
    with open_index(folder) as index:
        index.pictures.columns  # noqa: B018
        list(index.pictures)
        assert sorted(folder.rglob("*")) == names
