"""Pickles of plain values and numpy arrays, read without running anything that they say.

Of a pickle's instructions those that would call something leave a note (see pickles.py); notes of
numpy's own become arrays here, by the shape, type and bytes in them. Whatever else a pickle asks
for, it is refused by that name.
"""

import io
import math
from typing import Any

import numpy as np

from vlmo_jax.datasets.pickles import (
    BrokenPickleError,
    Call,
    CodeInPickleError,
    Global,
    Persistent,
    read_pickle,
)

_MODULES = ("numpy.core", "numpy._core")  # of numpy before and since 2.0
_ARRAYS = {f"{module}.multiarray._reconstruct" for module in _MODULES}
_BUFFERS = {f"{module}.numeric._frombuffer" for module in _MODULES}
_SCALARS = {f"{module}.multiarray.scalar" for module in _MODULES}
_BYTES = {"_codecs.encode", "builtins.bytes", "builtins.bytearray"}
_NAMES = {"numpy.ndarray", "numpy.dtype"}
ALLOWED = _ARRAYS | _BUFFERS | _SCALARS | _BYTES | _NAMES

# Types of arrays, without a byte order.
_TYPES = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"f2", "f4", "f8", "b1"}
_ORDERS = {"<": "<", "|": "", "=": "<", ">": ">"}
_DEEPEST = 20


def read_plain(data: bytes) -> Any:
    """Reads a pickle of dicts, lists, tuples, texts, bytes, numbers and numpy arrays of numbers.

    Args:
        data: the pickle.

    Returns:
        What it holds. Arrays may be read-only.

    Raises:
        BrokenPickleError: it is no pickle, or its arrays make no sense.
        CodeInPickleError: it asks for something else, such as a class; nothing is run.
    """
    pickled = read_pickle(io.BytesIO(data), ALLOWED.__contains__)
    if pickled.persistent:
        raise BrokenPickleError("its pickle speaks of something outside of it")
    try:
        return _plain(pickled.content, 0)
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        if isinstance(error, BrokenPickleError | CodeInPickleError):
            raise
        raise BrokenPickleError(f"its arrays make no sense: {error}") from error


def _plain(value: Any, depth: int) -> Any:
    """The value with arrays in the place of notes."""
    if depth > _DEEPEST:
        raise BrokenPickleError(f"its values lie more than {_DEEPEST} deep in each other")
    if isinstance(value, dict):
        return {_plain(key, depth + 1): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item, depth + 1) for item in value)
    if isinstance(value, Call):
        return _made(value)
    if isinstance(value, Global | Persistent):
        raise BrokenPickleError(f"{value} stands where a value should")
    return value


def _made(call: Call) -> Any:
    """What numpy, or the codec of old bytes, would have made of a call."""
    if call.name in _BYTES:
        return _bytes(call)
    if call.name in _SCALARS:
        dtype, data = call.args
        return _array(data, dtype, (), False)[()]
    if call.name in _BUFFERS:
        data, dtype, shape, order = call.args
        return _array(data, dtype, shape, order == "F")
    if call.name in _ARRAYS:
        _, shape, dtype, fortran, data = call.state
        return _array(data, dtype, shape, bool(fortran))
    raise BrokenPickleError(f"a call of {call.name} where a value should stand")


def _bytes(value: Any) -> bytes:
    """Bytes, or what stands for them in pickles of Python 2 and of old protocols."""
    if isinstance(value, Call) and value.name in _BYTES:
        text = value.args[0] if value.args else b""
        return _bytes(text)
    if isinstance(value, str):
        return value.encode("latin-1")
    if not isinstance(value, bytes | bytearray):
        raise BrokenPickleError(f"{type(value).__name__} where bytes should stand")
    return bytes(value)


def _array(data: Any, dtype: Any, shape: Any, fortran: bool) -> np.ndarray:
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise BrokenPickleError(f"an array of shape {shape!r}")
    kind = _dtype(dtype)
    array = np.frombuffer(_bytes(data), kind)
    if array.size != math.prod(shape):
        raise BrokenPickleError(f"an array of shape {shape} with {array.size} numbers")
    return array.reshape(shape, order="F" if fortran else "C")


def _dtype(note: Any) -> np.dtype:
    """A type of numbers from the note of its call and of the state given to it."""
    if not isinstance(note, Call) or note.name != "numpy.dtype":
        raise BrokenPickleError(f"{note!r} where a type of numbers should stand")
    code, order = note.args[0], note.state[1] if note.state else "="
    if code not in _TYPES or order not in _ORDERS:
        raise BrokenPickleError(f"arrays of type {code!r}, which are no plain numbers")
    return np.dtype(_ORDERS[order] + code)
