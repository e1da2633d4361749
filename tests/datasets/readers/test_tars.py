"""Tars are listed by their headers; what is odd in them is named, and nothing leads out of them."""

import io
import os
import tarfile
import time

import pytest

from tests.datasets.readers.archives import write_tar
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.places import InTar
from vlmo_jax.datasets.readers.protocol import LeftOutError
from vlmo_jax.datasets.readers.tars import list_tar


def contents(path, listing):
    """{name: bytes} of the members, read in place."""
    return {
        name: InTar(path.name, offset, size).read(path.parent)
        for name, offset, size in listing.members
    }


@pytest.mark.parametrize(
    "file_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_members_are_found_where_they_lie(tmp_path, file_format):
    long = "long/" + 60 * "folder" + "/x.jpg" if file_format != tarfile.USTAR_FORMAT else "x.jpg"
    files = {"b.txt": b"bee", "./a.txt": b"a" * 600, "empty": b"", long: b"long"}
    with tarfile.open(tmp_path / "x.tar", "w", format=file_format) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    listing = list_tar(tmp_path / "x.tar")
    expected = {name.removeprefix("./"): data for name, data in files.items()}
    assert contents(tmp_path / "x.tar", listing) == expected
    assert list(contents(tmp_path / "x.tar", listing)) == list(expected)
    assert (listing.left_out, listing.problem) == ({}, "")


def test_what_is_no_plain_file_inside_is_left_out(tmp_path):
    outside = tmp_path / "secret.jpg"
    outside.write_bytes(b"secret")
    path = write_tar(
        tmp_path / "x.tar",
        [
            ("folder", (tarfile.DIRTYPE, "")),
            ("good.jpg", b"good"),
            ("../up.jpg", b"up"),
            ("/etc/passwd", b"root"),
            ("soft.jpg", (tarfile.SYMTYPE, str(outside))),
            ("hard.jpg", (tarfile.LNKTYPE, "good.jpg")),
            ("device.jpg", (tarfile.CHRTYPE, "")),
            ("pipe.jpg", (tarfile.FIFOTYPE, "")),
            ("caf\udce9.jpg", b"latin"),
            ("a\nb.jpg", b"two lines"),
        ],
    )
    listing = list_tar(path)
    assert contents(path, listing) == {"good.jpg": b"good"}
    reasons = {name: why.split(" (")[0] for name, why in listing.left_out.items()}
    assert reasons == {
        "../up.jpg": "its name leads out of the tar",
        "/etc/passwd": "its name leads out of the tar",
        "soft.jpg": "it is a link",
        "hard.jpg": "it is a link",
        "device.jpg": "it is no regular file",
        "pipe.jpg": "it is no regular file",
        "caf\\udce9.jpg": "its name is not UTF-8, or has control characters",
        "a\\nb.jpg": "its name is not UTF-8, or has control characters",
    }


def test_the_last_of_several_members_of_a_name_counts(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a", b"old"), ("b", b"b"), ("a", b"new")])
    listing = list_tar(path)
    assert contents(path, listing) == {"b": b"b", "a": b"new"}
    assert listing.left_out == {"a (the first)": "a later member of the tar has its name"}


@pytest.mark.parametrize(
    "keep, names",
    [
        (512 + 700, ["a"]),  # in the header of b
        (512 + 512 + 512, ["a"]),  # where the contents of b begin
        (512 + 512 + 512 + 5, ["a"]),
        (512 + 512 + 512 + 9, ["a", "b"]),  # b is whole, its last block is not
        (512 + 512 + 512 + 512, ["a", "b"]),
        (512 + 512 + 512 + 600, ["a", "b"]),
    ],
)
def test_of_a_cut_tar_the_members_before_are_listed(tmp_path, keep, names):
    path = write_tar(tmp_path / "x.tar", [("a", b"a" * 9), ("b", b"b" * 9)])
    os.truncate(path, keep)
    listing = list_tar(path)
    assert [member.name for member in listing.members] == names
    assert listing.problem == f"it was cut at byte {keep:,}"


def test_damage_within_is_told_and_not_taken_for_the_end(tmp_path):
    path = write_tar(tmp_path / "x.tar", [(name, b"data") for name in "abc"])
    data = bytearray(path.read_bytes())
    data[1024 + 30] ^= 255  # in the header of b
    path.write_bytes(data)
    listing = list_tar(path)
    assert [member.name for member in listing.members] == ["a"]
    assert listing.problem == "it is damaged at byte 1,024"


def test_a_member_of_less_than_no_bytes_is_damage(tmp_path):
    path = write_tar(tmp_path / "x.tar", [(name, b"data") for name in "abc"])
    data = bytearray(path.read_bytes())
    header = data[1024:1536]
    header[124:136] = b"\xff" * 12  # a size of -1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[1024:1536] = header
    path.write_bytes(data)
    listing = list_tar(path)
    assert [member.name for member in listing.members] == ["a"]
    assert listing.problem == "it is damaged at byte 1,024"


def test_tars_that_were_joined_are_told(tmp_path):
    one, two = (write_tar(tmp_path / f"{n}.tar", [(n, b"data")]) for n in "ab")
    joined = tmp_path / "joined.tar"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    listing = list_tar(joined)
    assert [member.name for member in listing.members] == ["a"]
    assert "several tars were joined" in listing.problem and "--ignore-zeros" in listing.problem


def test_a_tar_within_a_tar_is_listed_within_its_bounds(tmp_path):
    inner = write_tar(tmp_path / "inner.tar", [("x", b"ex"), ("y", b"why")])
    outer = write_tar(tmp_path / "outer.tar", [("1", b"1"), ("in.tar", inner.read_bytes())])
    [_, member] = list_tar(outer).members
    listing = list_tar(outer, member.offset, member.offset + member.size)
    assert contents(outer, listing) == {"x": b"ex", "y": b"why"} and not listing.problem
    cut = list_tar(outer, member.offset, member.offset + 1024)
    assert [one.name for one in cut.members] == ["x"] and "cut" in cut.problem


@pytest.mark.parametrize(
    "data, message",
    [(b"", "an empty file"), (b"\x1f\x8b123", "a gzip archive"), (b"abc", "x.tar is")],
)
def test_files_that_are_no_tars_are_refused(tmp_path, data, message):
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(DataError, match=message):
        list_tar(tmp_path / "x.tar")


def test_a_tar_that_is_cut_after_it_was_listed_leaves_out_what_is_gone(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("a", b"a" * 900)])
    [member] = list_tar(path).members
    os.truncate(path, 1000)
    with pytest.raises(LeftOutError, match="x.tar was cut after"):
        InTar("x.tar", member.offset, member.size).read(tmp_path)


def test_an_empty_tar_has_no_members(tmp_path):
    assert list_tar(write_tar(tmp_path / "x.tar", [])) == ([], {}, "")


def test_thousands_of_members_are_listed_in_no_time(tmp_path):
    path = write_tar(tmp_path / "x.tar", [(f"{i:09}.txt", b"caption") for i in range(3000)])
    start = time.process_time()
    assert len(list_tar(path).members) == 3000
    assert time.process_time() - start < 2
