"""Files that are no checkpoints, headers that lie, and types that float32 cannot hold."""

import io
import json
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from vlmo_jax.interop.float32_tensors import as_float32
from vlmo_jax.interop.tensor_files import TensorFileError, read_tensors, write_safetensors


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors", ".npz"])
@pytest.mark.parametrize(
    "content, message",
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
            "a pointer of Git LFS, not the file itself; run `git lfs pull`",
        ),
        (b"\n <!DOCTYPE html>\n<html>", "a web page; .*download it again"),
        (b"<HTML>", "a web page"),
        (b"<?xml version='1.0'?><Error>", "an answer of a server in XML"),
        (b"", "the file is empty"),
        (b"\x1f\x8b\x08rest", "a gzip archive; unpack it first"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    ],
)
def test_files_that_are_something_else(tmp_path, suffix, content, message):
    path = (tmp_path / "a").with_suffix(suffix)
    path.write_bytes(content)
    with pytest.raises(TensorFileError, match=f"a{suffix}: .*{message}"):
        read_tensors(path)


def write_header(path, text, data=bytes(8)):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header, message",
    [
        ({"x": {**F32, "shape": [-1, -2]}}, r"tensor x has the shape \[-1, -2\]"),
        ({"x": {**F32, "shape": [2.0]}}, "tensor x has the shape"),
        ({"x": {**F32, "shape": [True, 2]}}, "tensor x has the shape"),
        ({"x": {**F32, "shape": "2"}}, "tensor x has the shape"),
        ({"x": {**F32, "shape": [2**61, 8]}}, "tensor x has a wrong place or length"),
        ({"x": {**F32, "shape": [2**70]}}, "tensor x has the shape"),
        ({"x": {**F32, "shape": [1] * 40 + [2]}}, "tensor x has the shape"),
        ({"x": {**F32, "data_offsets": [8, 0]}}, "tensor x has a wrong place or length"),
        ({"x": {**F32, "data_offsets": [-8, 0]}}, "tensor x has the data_offsets"),
        ({"x": {**F32, "data_offsets": [0, 8, 16]}}, "tensor x has the data_offsets"),
        ({"x": F32, "y": F32}, "has a wrong place or length"),
        ({"x": F32, "y": {**F32, "data_offsets": [4, 12]}}, "y has a wrong place or length"),
        ({"block": {"x": F32}}, "tensor block has no dtype, shape and data_offsets"),
        ({"x": {**F32, "dtype": "F4"}}, "tensor x is of type F4, which is not known here"),
        ({"x": {**F32, "dtype": ["F32"]}}, "tensor x is of type"),
        ({"__metadata__": {"a": {"b": "c"}}, "x": F32}, "its __metadata__ is not"),
        ([F32], "its header is a list"),
        (b'{"x":' + json.dumps(F32).encode() + b',"x":' + json.dumps(F32).encode() + b"}", "twice"),
        (b"[" * 100_000, "damaged or cut"),
        (b'{"x": ' * 50_000, "damaged or cut"),
        (b"\xff\xfe{}", "damaged or cut"),
        ({"x": {**F32, "shape": [float("nan")]}}, "tensor x has the shape"),
    ],
)
def test_headers_that_lie(tmp_path, header, message):
    path = write_header(tmp_path / "a.safetensors", header)
    with pytest.raises(TensorFileError, match=f"a.safetensors: .*{message}"):
        read_tensors(path)


def test_long_headers_are_not_read(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(TensorFileError, match="a header of 9223372036854775808 bytes in a file"):
        read_tensors(path)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.array(["a", "b"]), "tensor x is of numpy's type <U1"),
        (np.zeros(2, [("a", "f4")]), "tensor x is of numpy's type"),
        (np.zeros(2, "M8[s]"), "tensor x is of numpy's type"),
        (np.zeros(2, ml_dtypes.bfloat16), "tensor x is of numpy's type .*bfloat16"),
        (np.array([{}], object), "tensor x holds pickled Python objects"),
    ],
)
def test_npz_of_other_types(tmp_path, array, message):
    np.savez(tmp_path / "a.npz", x=array)
    with pytest.raises(TensorFileError, match=message):
        read_tensors(tmp_path / "a.npz")


def test_npz_with_other_members_or_shapes(tmp_path):
    path, file = tmp_path / "a.npz", io.BytesIO()
    np.save(file, np.zeros((4, 8)))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", file.getvalue().replace(b"(4, 8)", b"(9, 9)"))
    with pytest.raises(TensorFileError, match=r"tensor x: shape \(9, 9\) is not that of its bytes"):
        read_tensors(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.txt", "")
    with pytest.raises(TensorFileError, match=r"x.txt in it is no .npy file"):
        read_tensors(path)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "uint16", "bool"])
def test_types_that_float32_holds(tmp_path, dtype):
    values = np.array([0.0, 1.0, 2.0]).astype(getattr(ml_dtypes, dtype, dtype))
    write_safetensors(tmp_path / "a.safetensors", {"x": values})
    found = read_tensors(tmp_path / "a.safetensors")["x"]
    assert found.dtype == values.dtype
    assert as_float32("x", found).tolist() == values.astype(float).tolist()


@pytest.mark.parametrize(
    "values, kept",
    [
        (np.array([0.5, -0.0, 2.0**100]), True),
        (np.array([0.5, 0.1]), False),
        (np.array([1e300]), False),
        (np.array([1e-300]), False),
        (np.array([2**24, -(2**24)]), True),
        (np.array([2**24 + 1]), False),
        (np.array([2**63 - 1]), False),
        (np.array([2**64 - 1], np.uint64), False),
        (np.array([65535], np.uint16), True),
        (np.array([True, False]), True),
        (np.array([1 + 0j]), False),
        (np.array([1.0], np.longdouble), False),
        (np.array([np.nan]), False),
        (np.array([np.inf]), False),
    ],
)
def test_values_are_kept_or_refused_by_name(values, kept):
    if kept:
        assert np.array_equal(as_float32("x.weight", values), values.astype(np.float64))
        assert np.array_equal(np.signbit(as_float32("x", values)), np.signbit(values * 1.0))
    else:
        with pytest.raises(ValueError, match="x.weight: "):
            as_float32("x.weight", values)
