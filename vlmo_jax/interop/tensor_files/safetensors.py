"""Safetensors: a length, a JSON header, raw bytes.

It is read and written here a tensor at a time, since the package builds whole files in memory.
"""

import collections
import json
import math
import pathlib
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from vlmo_jax.interop.tensor_files.errors import TensorFileError, check_name, damaged, few, shown

TYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "C64": np.dtype("<c8"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
MAX_HEADER = 100_000_000  # bytes, the format's own limit
MAX_AXES = 32


class _Entry(NamedTuple):
    """A tensor of a safetensors file: its type, shape, and bytes `start` to `stop` of the data."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file: dict name -> read-only view of the mapped file.

    Raises:
        TensorFileError: the file is cut, damaged, or of types that numpy lacks.
    """
    start, entries = _read_header(path)
    if not any(entry.stop for entry in entries.values()):  # nothing to map
        return {name: np.zeros(entry.shape, entry.dtype) for name, entry in entries.items()}
    data = np.memmap(path, np.uint8, "r", offset=start)
    return {
        name: data[entry.start : entry.stop].view(entry.dtype).reshape(entry.shape)
        for name, entry in entries.items()
    }


def _read_header(path: pathlib.Path) -> tuple[int, dict[str, _Entry]]:
    """Where the data of a safetensors file begins, and what lies there.

    Raises:
        TensorFileError: the tensors do not fill the file from there to its end.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER, size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length), object_pairs_hook=unique_keys)
    except (struct.error, ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    if not isinstance(header, dict):
        raise damaged(path, f"its header is a {type(header).__name__}, not an object of tensors")
    _check_metadata(path, header.pop("__metadata__", {}))
    entries = {check_name(path, name): _entry(path, name, e) for name, e in header.items()}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != end or entry.stop - end != math.prod(entry.shape) * entry.dtype.itemsize:
            raise damaged(path, f"tensor {name} has a wrong place or length")
        end = entry.stop
    if 8 + length + end != size:
        raise damaged(path, f"{size} bytes instead of {8 + length + end}")
    return 8 + length, entries


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict; an `object_pairs_hook` of json.loads.

    Raises:
        ValueError: a key stands there twice, of which Python would keep the last.
    """
    unique = dict(pairs)
    if len(unique) != len(pairs):
        counts = collections.Counter(key for key, _ in pairs)
        twice = [key for key, count in counts.items() if count > 1]
        raise ValueError(f"twice in it: {few(twice)}")
    return unique


def _check_metadata(path: pathlib.Path, metadata: Any) -> None:
    flat = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    if not flat:
        raise damaged(path, "its __metadata__ is not an object of texts")


def _entry(path: pathlib.Path, name: str, entry: Any) -> _Entry:
    """An entry of a header, if it is one."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise damaged(path, f"tensor {name} has no dtype, shape and data_offsets of its own")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in TYPES:
        raise TensorFileError(
            f"{path}: tensor {name} is of type {shown(kind)}, which is not known here; save it as"
            f" one of {', '.join(TYPES)}"
        )
    if not _whole_numbers(shape) or len(shape) > MAX_AXES:
        raise damaged(
            path, f"tensor {name} has the shape {shown(shape)}, not numbers that are not negative"
        )
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise damaged(path, f"tensor {name} has the data_offsets {shown(offsets)}")
    return _Entry(TYPES[kind], tuple(shape), *offsets)


def _whole_numbers(values: Any) -> bool:
    """Whether this is a list of ints from 0 to what a file can hold."""
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**62 for v in values)


def write_safetensors(
    path: pathlib.Path, tensors: Mapping[str, np.ndarray], bar: Any = None
) -> None:
    """Writes a safetensors file, one tensor in memory at a time.

    Args:
        path: of the file.
        tensors: mapping name -> numpy array of any memory layout.
        bar: has `update()`, called once a tensor; or None.
    """
    names = {dtype: name for name, dtype in TYPES.items()}
    header, offset = {}, 0
    for name, tensor in tensors.items():
        stop = offset + tensor.nbytes
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, stop],
        }
        offset = stop
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(np.asarray(tensor, order="C").reshape(-1).view(np.uint8).data)
            if bar is not None:
                bar.update()
