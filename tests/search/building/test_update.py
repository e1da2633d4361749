"""An index is made and renewed: it says what a new one of the same folder would say, whatever
happened on the way.
"""

import json
import os

import numpy as np
import pytest

from tests.search.worlds import StubModel, age, contents, contents_of, draw, update
from vlmo_jax.search import open_index
from vlmo_jax.search.about import DamagedIndexError, OtherModelError
from vlmo_jax.search.building import making as makings
from vlmo_jax.search.building import publish as publishing
from vlmo_jax.search.building import update as updating
from vlmo_jax.search.building.walk import NoPicturesError


def test_a_first_index_has_all_pictures_with_their_vectors(pictures, index):
    (pictures / "a/notes.md").write_text("x")
    summary = update(pictures, index)
    assert (summary.rows, summary.new, summary.encoded, summary.others) == (5, 5, 5, 1)
    with open_index(index) as opened:
        assert [one.path for one in opened.pictures] == [
            "a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png",
        ]  # fmt: skip
        assert opened.vectors.shape == (5, 48) and opened.vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(opened.vectors, axis=1), 1)
        assert opened.about.rows == 5 and opened.about.model == "/models/stub"
        assert opened.original(opened.pictures[0].id) == pictures / "a/0.png"
        assert isinstance(opened.vectors, np.memmap)


def test_only_what_is_new_is_read_and_encoded(pictures, index):
    update(pictures, index)
    model = StubModel()
    assert update(pictures, index, model).encoded == model.looked_at == 0
    age(draw(pictures / "c/new.png", 77))
    os.utime(pictures / "a/0.png", (5e8, 5e8))  # touched, and the same
    (pictures / "b/1.png").rename(pictures / "c/moved.png")
    (pictures / "b/3.png").unlink()
    summary = update(pictures, index, model)
    assert model.looked_at == summary.encoded == 1
    assert (summary.rows, summary.new, summary.changed, summary.removed) == (5, 2, 0, 2)


def test_an_index_that_is_up_to_date_is_not_written_again(pictures, index):
    update(pictures, index)
    before = (index / "index.json").read_text()
    update(pictures, index)
    assert (index / "index.json").read_text() == before
    assert len(list((index / "generations").iterdir())) == 1


def test_a_change_that_keeps_size_and_time_is_seen_while_the_file_is_new(pictures, index):
    path = draw(pictures / "new.bmp", 1)
    found = path.stat()
    update(pictures, index)
    draw(path, 2)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert path.stat().st_size == found.st_size
    assert update(pictures, index).changed == 1


@pytest.mark.parametrize("seed", range(3))
def test_any_changes_lead_to_what_a_new_index_says(tmp_path, seed, monkeypatch):
    monkeypatch.setattr(updating, "PART", 3)
    monkeypatch.setattr(publishing, "_PACK_BYTES", 4000)
    monkeypatch.setattr(publishing, "_MOST_PACKS", 4)
    rng, pictures = np.random.default_rng(seed), tmp_path / "pictures"
    for step in range(8):
        for _ in range(rng.integers(1, 6)):
            _change(pictures, rng)
        draw(pictures / "always.png", 0)
        model = StubModel()
        update(pictures, tmp_path / "index", model)
        update(pictures, tmp_path / f"new{step}", model)
        assert contents(tmp_path / "index") == contents(tmp_path / f"new{step}")
        rows = contents(tmp_path / "index").values()
        assert all(in_its_row for *_, in_its_row in rows)
    files = list((tmp_path / "index/thumbnails").iterdir())
    assert len(files) <= 4 + 8 and len(list((tmp_path / "index/generations").iterdir())) == 1


def _change(pictures, rng):
    """Adds, changes, moves, copies or deletes something."""
    there = sorted(pictures.rglob("*.png")) if pictures.exists() else []
    one = there[rng.integers(len(there))] if there else None
    name = pictures / f"{'xyz'[rng.integers(3)]}/{rng.integers(40)}.png"
    what = rng.integers(6)
    if what == 0 or one is None:
        draw(name, int(rng.integers(1000)), size=(int(rng.integers(5, 50)), 20))
    elif what == 1:
        draw(one, int(rng.integers(1000)))
    elif what == 2:
        one.unlink()
    elif what == 3:
        name.parent.mkdir(exist_ok=True)
        one.rename(name)
    elif what == 4:
        name.parent.mkdir(exist_ok=True)
        name.write_bytes(one.read_bytes())
    else:
        one.with_suffix(".txt").write_text(f"caption {rng.integers(100)}")
    if name.exists() and rng.random() < 0.5:
        age(name, int(rng.integers(10, 10_000)))


def test_readers_go_on_with_the_index_that_they_have(pictures, index):
    update(pictures, index)
    with open_index(index) as opened:
        before = contents_of(opened)
        for path in pictures.rglob("*.png"):
            path.unlink()
        age(draw(pictures / "only.png", 99))
        update(pictures, index)
        assert list(contents(index)) == ["only.png"]
        assert len(list((index / "thumbnails").iterdir())) == 1
        assert contents_of(opened) == before


@pytest.mark.parametrize(
    "changes, what",
    [
        ({"fingerprint": "cd" * 32}, "weights abababababab.* has cdcdcdcdcdcd"),
        ({"preprocessing": {"image_size": 9}}, "preprocessing .*'image_size': 9"),
    ],
)
def test_another_model_is_refused_until_the_index_is_made_anew(pictures, index, changes, what):
    update(pictures, index)
    model = StubModel(**changes)
    with pytest.raises(OtherModelError, match=f"{what}.*--restart"):
        update(pictures, index, model)
    assert update(pictures, index, model, restart=True).encoded == 5


def test_vectors_of_another_size_are_refused(pictures, index):
    update(pictures, index)
    about = json.loads((index / "index.json").read_text())
    about["origin"]["dimension"] = 24
    (index / "index.json").write_text(json.dumps(about))
    with pytest.raises(DamagedIndexError, match=r"\[5, 48\].*says 24"):
        open_index(index)


def test_half_precision_is_kept_and_not_mixed(pictures, index):
    update(pictures, index, dtype="float16")
    age(draw(pictures / "new.png", 9))
    update(pictures, index)
    assert open_index(index).vectors.dtype == np.float16
    with pytest.raises(updating.WrongFolderError, match="vectors of float16, not float32"):
        update(pictures, index, dtype="float32")


def test_other_folders_are_refused_on_both_sides(pictures, index, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("x")
    with pytest.raises(updating.WrongFolderError, match="holds other files \\(thesis.tex\\)"):
        update(pictures, tmp_path / "full")
    update(pictures, index)
    draw(tmp_path / "others/1.png", 0)
    with pytest.raises(updating.WrongFolderError, match="is the index of .*pictures, not of"):
        update(tmp_path / "others", index)


def test_a_folder_that_was_moved_is_still_the_same(pictures, index, tmp_path):
    update(pictures, index)
    pictures.rename(tmp_path / "moved")
    assert update(tmp_path / "moved", index).encoded == 0
    with open_index(index) as opened:
        assert opened.original(opened.pictures[0].id) == tmp_path / "moved/a/0.png"


def test_index_and_pictures_may_move_together(tmp_path):
    draw(tmp_path / "drive/pictures/1.png", 0)
    update(tmp_path / "drive/pictures", tmp_path / "drive/index")
    (tmp_path / "drive").rename(tmp_path / "elsewhere")
    with open_index(tmp_path / "elsewhere/index") as opened:
        path = opened.original(opened.pictures[0].id)
        assert path == tmp_path / "elsewhere/pictures/1.png"


def test_an_index_among_the_pictures_does_not_see_itself(pictures):
    update(pictures, pictures / "index")
    assert update(pictures, pictures / "index").rows == 5


def test_nothing_at_all_is_refused_and_removes_nothing(pictures, index):
    update(pictures, index)
    kept = contents(index)
    pictures.rename(pictures.with_name("unplugged"))
    pictures.mkdir()
    with pytest.raises(NoPicturesError, match="none of the 5 pictures.*is its drive there"):
        update(pictures, index)
    assert contents(index) == kept
    with pytest.raises(NoPicturesError, match=r"no picture that can be used.*\(0 cannot, 0 other"):
        update(pictures, index.with_name("second"))


def test_pictures_below_a_closed_folder_stay(pictures, index, monkeypatch):
    update(pictures, index)
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(updating.Walk.run.__globals__["os"], "scandir", refuse)
    summary = update(pictures, index)
    assert (summary.rows, summary.removed, summary.skipped) == (5, 0, 1)


def test_broken_files_are_listed_and_left_alone_until_they_change(pictures, index, monkeypatch):
    path = pictures / "broken.jpg"
    path.write_bytes(b"no picture")
    age(path)
    draw(pictures / "z.png", 0)
    assert update(pictures, index).skipped == 1
    assert "broken.jpg\t" in (index / "skipped.tsv").read_text()
    with open_index(index) as opened:
        assert "text that begins with" in dict(opened.pictures.skipped())["broken.jpg"]
    monkeypatch.setattr(updating.Preparer, "prepare", _stop_at("broken.jpg"))
    assert update(pictures, index).skipped == 1
    monkeypatch.undo()
    draw(path, 3)
    summary = update(pictures, index)
    assert (summary.skipped, summary.new) == (0, 1)
    assert (index / "skipped.tsv").read_text() == ""


def _stop_at(name):
    whole = updating.Preparer.prepare

    def prepare(self, found):
        assert found.path != name
        return whole(self, found)

    return prepare


def test_captions_come_from_the_file_the_text_beside_or_the_picture(pictures, index, tmp_path):
    (pictures / "a/0.txt").write_text("one line\n\nand  another\n")
    (pictures / "a/2.png.txt").write_bytes(b"\xff")  # of no encoding, and still no error
    table = tmp_path / "captions.csv"
    table.write_text("image,caption\na/0.png,of the table\nb/1.png,a boat\nb/9.png,gone\n")

    def captions():
        with open_index(index) as opened:
            return {one.path: one.caption for one in opened.pictures if one.caption}

    update(pictures, index)
    assert captions() == {"a/0.png": "one line / and another", "a/2.png": "\u00ff"}
    summary = update(pictures, index, captions_file=table)
    assert (summary.encoded, summary.without_caption) == (0, 1)
    assert captions() == {"a/0.png": "of the table", "a/2.png": "\u00ff", "b/1.png": "a boat"}
    (pictures / "a/0.txt").write_text("new")
    update(pictures, index)
    assert captions() == {"a/0.png": "new", "a/2.png": "\u00ff"}


def test_names_of_any_bytes_come_back(tmp_path, index):
    names = [b"caf\xe9.png", b"two\nlines.png", "f\N{SNOWMAN}.png".encode()]
    for number, name in enumerate(names):
        draw(tmp_path / "pictures" / os.fsdecode(name), number)
    update(tmp_path / "pictures", index)
    with open_index(index) as opened:
        found = [os.fsencode(opened.original(one.id).name) for one in opened.pictures]
    assert found == sorted(names)


def test_two_commands_do_not_make_the_same_index(pictures, index):
    index.mkdir()
    with makings.locked(index), pytest.raises(makings.IndexInUseError, match="another command"):
        update(pictures, index)
    assert update(pictures, index).rows == 5


def test_progress_is_told_of_what_has_to_be_done(pictures, index, monkeypatch):
    monkeypatch.setattr(updating, "PART", 2)
    told = []
    update(pictures, index, tell=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 5) and told[-1] == (5, 5)
    assert all(a <= b for (a, _), (b, _) in zip(told, told[1:]))
