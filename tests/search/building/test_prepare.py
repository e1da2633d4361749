"""Files are read: once, whole, and refused with a reason."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.search.worlds import draw
from vlmo_jax.inference.inputs import image_row
from vlmo_jax.input.plain_images import CroppedRows, ImageRows
from vlmo_jax.search.building import prepare
from vlmo_jax.search.building.prepare import Preparer
from vlmo_jax.search.building.walk import FoundFile

SQUARES = ImageRows(16)


def prepared(path, known=(), form=SQUARES):
    found = FoundFile(path.name, None, path.stat().st_size, path.stat().st_mtime_ns, None)
    return Preparer(path.parent, form, known.__contains__).prepare(found)


def test_the_model_sees_what_it_sees_of_the_file_itself(tmp_path):
    made = Image.Exif()
    made[0x0112] = 6  # lies on its side
    path = draw(tmp_path / "a.jpg", 3, size=(400, 100), exif=made)
    for form in (CroppedRows(16), ImageRows(16)):
        one = prepared(path, form=form)
        assert np.array_equal(one.new.pixels, image_row(path, form).arrays["image"])
    assert (one.new.width, one.new.height) == (100, 400)
    thumbnail = Image.open(io.BytesIO(one.new.thumbnail))
    assert thumbnail.format == "JPEG" and thumbnail.size == (80, 320)
    assert prepared(path, known={one.seen.digest}).new is None


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_pictures_of_any_kind_have_a_small_copy(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (1, 3000)).save(path)
    one = prepared(path)
    assert Image.open(io.BytesIO(one.new.thumbnail)).size == (1, 320)
    assert one.new.pixels.shape == (16, 16, 3) and (one.new.width, one.new.height) == (1, 3000)


def bomb(side):
    """A PNG that says that it has so many pixels a side."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )  # fmt: skip


@pytest.mark.parametrize(
    "name, data, reason",
    [
        ("bomb.png", bomb(30_000), "too many pixels"),
        ("empty.jpg", b"", "the file is empty"),
        ("zeros.jpg", b"\0" * 100, "file of zeros"),
        ("phone.heic", b"\0\0\0\x18ftypheic" + b"\0" * 50, "a HEIC picture; convert it"),
        ("page.jpg", b"<html>404</html>", "an HTML page"),
    ],
)
def test_what_cannot_be_used_says_why(tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    one = prepared(tmp_path / name)
    assert one.seen is None and reason in one.reason and "\n" not in one.reason
    assert not one.again


def test_a_cut_file_is_refused(tmp_path):
    path = draw(tmp_path / "a.png", 0, size=(300, 300))
    path.write_bytes(path.read_bytes()[:200])
    assert prepared(path).reason


def test_what_is_gone_or_refused_is_tried_again(tmp_path, monkeypatch):
    path = draw(tmp_path / "a.png", 0)
    monkeypatch.setattr(prepare, "open", _refuse, raising=False)
    one = prepared(path)
    assert "Permission denied" in one.reason and one.again


def _refuse(*args):
    raise PermissionError(13, "Permission denied")


def test_what_is_being_written_waits_for_the_next_call(tmp_path, monkeypatch):
    path, fstat, calls = draw(tmp_path / "a.png", 0), os.fstat, []

    def growing(handle):
        calls.append(handle)
        with path.open("ab") as file:
            file.write(b"more")
        return fstat(handle)

    monkeypatch.setattr(prepare.os, "fstat", growing)
    one = prepared(path)
    assert "being written to" in one.reason and one.again and len(calls) == 4


def test_a_change_that_keeps_size_and_time_is_not_missed(tmp_path):
    path = draw(tmp_path / "a.png", 0)
    assert not prepared(path).seen.settled
    os.utime(path, (1e9, 1e9))
    assert prepared(path).seen.settled
