"""Numpy's .npz: a zip file of arrays."""

import io
import math
import pathlib

import numpy as np

from vlmo_jax.interop.tensor_files.archive import Archive
from vlmo_jax.interop.tensor_files.errors import TensorFileError, check_name, damaged, shown

MAX_HEADER = 16_384  # bytes; numpy itself stops at 10,000
_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads an .npz file: dict name -> array in memory.

    Raises:
        TensorFileError: it is damaged, or holds something else than numbers.
    """
    archive = Archive(path)
    tensors = {}
    for member in archive:
        if not member.endswith(".npy"):
            raise TensorFileError(
                f"{path}: {shown(member)} in it is no .npy file, so this is no .npz"
            )
        name = check_name(path, member.removesuffix(".npy"))
        tensors[name] = _read_array(archive, member, name)
    return tensors


def _read_array(archive: Archive, member: str, name: str) -> np.ndarray:
    path = archive.path
    file = io.BytesIO(archive.head(member, MAX_HEADER))
    try:
        shape, by_columns, dtype = _READERS[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise damaged(path, f"{name}: {error}") from error
    if dtype.hasobject:
        raise TensorFileError(
            f"{path}: tensor {name} holds pickled Python objects, which may carry code; save plain"
            " arrays"
        )
    if dtype.kind not in "fiubc":
        raise TensorFileError(
            f"{path}: tensor {name} is of numpy's type {str(dtype)[:60]}, which is no number (.npz"
            " does not know bfloat16); save it as .safetensors, or as float32"
        )
    count = math.prod(shape)
    if min(shape, default=0) < 0 or file.tell() + count * dtype.itemsize != archive.size(member):
        raise damaged(path, f"tensor {name}: shape {shape} is not that of its bytes")
    values = np.frombuffer(archive.read(member)[file.tell() :].tobytes(), dtype)
    return values.reshape(shape, order="F" if by_columns else "C")
