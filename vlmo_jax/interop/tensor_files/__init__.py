"""Files of named tensors of others: what they hold, as numpy arrays, and whatever is wrong with
them in one line.

A file a format: safetensors, torch's two formats and numpy's .npz; folders with an index on top of
them, and names without the prefixes of wrappers. Nothing here is trusted: sizes are compared with
the file before memory is taken, and pickles are read without calling anything.
"""

from vlmo_jax.interop.tensor_files.errors import TensorFileError
from vlmo_jax.interop.tensor_files.read import NamedTensors, check_whole, is_mapped, read_tensors
from vlmo_jax.interop.tensor_files.safetensors import read_safetensors, write_safetensors
from vlmo_jax.interop.tensor_files.write_torch import import_torch, write_torch

__all__ = [
    "NamedTensors",
    "TensorFileError",
    "check_whole",
    "import_torch",
    "is_mapped",
    "read_safetensors",
    "read_tensors",
    "write_safetensors",
    "write_torch",
]
