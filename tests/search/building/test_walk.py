"""A folder is gone through: all pictures, each other thing counted, nothing twice."""

import os

import pytest

from tests.search.worlds import draw
from vlmo_jax.search.building import walk
from vlmo_jax.search.building.walk import NoPicturesError, Walk


def paths(walked):
    return [one.path for one in walked.files]


def test_pictures_others_and_hidden_ones_are_told_apart(tmp_path):
    for name in ("b/2.JPG", "a.png", "b/c/3.webp", ".hidden/4.png", "b/.5.png", "@eaDir/6.jpg"):
        draw(tmp_path / name, 0, format="PNG")
    for name in ("notes.md", "b/film.mp4", "b/2.txt", "b/alone.txt"):
        (tmp_path / name).write_text("x")
    walked = Walk(tmp_path).run()
    assert paths(walked) == ["a.png", "b/2.JPG", "b/c/3.webp"]
    assert [one.beside for one in walked.files] == [None, "b/2.txt", None]
    assert (walked.others, walked.hidden, walked.excluded) == (3, 3, 0)
    assert walked.skipped == {}


def test_patterns_leave_out_names_folders_and_paths(tmp_path):
    for name in ("a.png", "b.GIF", "drafts/c.png", "x/drafts/d.png", "y/raw/e.png", "y/f.png"):
        draw(tmp_path / name, 0)
    walked = Walk(tmp_path, exclude=["*.gif", "drafts", "y/raw/*"]).run()
    assert paths(walked) == ["a.png", "y/f.png"]
    assert walked.excluded == 4


def test_names_of_any_bytes_and_with_line_breaks_are_kept(tmp_path):
    names = [b"caf\xe9.png", b"two\nlines.png", b"tab\t.png", "f\N{SNOWMAN}.png".encode()]
    for name in names:
        draw(tmp_path / os.fsdecode(name), 0)
    assert [os.fsencode(path) for path in paths(Walk(tmp_path).run())] == sorted(names)


def test_links_are_followed_but_never_in_a_circle(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    draw(root / "z/1.png", 0)
    draw(outside / "2.png", 1)
    (root / "a_link").symlink_to(root / "z")
    (root / "b_out").symlink_to(outside)
    (root / "c_up").symlink_to(tmp_path)
    (root / "d_self.png").symlink_to(root / "d_self.png")
    (root / "e_gone.png").symlink_to(root / "nothing.png")
    (root / "f_file.png").symlink_to(outside / "2.png")
    (root / "z/back").symlink_to(root)
    walked = Walk(root).run()
    assert paths(walked) == ["b_out/2.png", "f_file.png", "z/1.png"]
    assert [one.real for one in walked.files] == [str(outside / "2.png")] * 2 + [None]
    circles = {"a_link/", "c_up/", "z/back/"}
    assert {path for path, why in walked.skipped.items() if "gone through" in why} == circles
    assert "nothing.png, which cannot be followed" in walked.skipped["e_gone.png"]
    assert "d_self.png" in walked.skipped


def test_the_index_itself_is_left_out(tmp_path):
    draw(tmp_path / "a.png", 0)
    draw(tmp_path / "my_index/inside.png", 0)
    assert paths(Walk(tmp_path, without=tmp_path / "my_index").run()) == ["a.png"]


def test_raw_pictures_and_what_is_no_file_are_listed(tmp_path):
    (tmp_path / "a.CR2").write_bytes(b"raw")
    os.mkfifo(tmp_path / "pipe.png")
    walked = Walk(tmp_path).run()
    assert not walked.files and "develop it" in walked.skipped["a.CR2"]
    assert walked.skipped["pipe.png"] == "it is no regular file"


def test_a_folder_that_is_closed_is_listed(tmp_path, monkeypatch):
    draw(tmp_path / "open/a.png", 0)
    draw(tmp_path / "closed/b.png", 0)
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(walk.os, "scandir", refuse)
    walked = Walk(tmp_path).run()
    assert paths(walked) == ["open/a.png"] and walked.closed == ["closed"]
    assert "Permission denied" in walked.skipped["closed/"]


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(NoPicturesError, match="not there; give the folder"):
        Walk(tmp_path / "gone")
    with pytest.raises(NoPicturesError, match="is a file"):
        Walk(draw(tmp_path / "a.png", 0))
