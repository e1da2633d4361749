"""Torch's own format, written with torch."""

import pathlib
import warnings
from types import ModuleType
from typing import Any

import numpy as np

from vlmo_jax.commands.endings import UserError
from vlmo_jax.interop.tensor_files.safetensors import read_safetensors


class MissingTorchError(UserError, ImportError):
    """There is no torch, which a file is to be written with."""


def import_torch(path: pathlib.Path) -> ModuleType:
    """The torch module, or an ImportError that says why `path` needs it and how to do without."""
    try:
        import torch
    except ImportError as error:
        raise MissingTorchError(
            f"{path}: writing {path.suffix} files needs torch; install it with `pip install"
            ' "vlmo-jax[convert]"`, or use .safetensors'
        ) from error
    return torch


def write_torch(path: pathlib.Path, safetensors: pathlib.Path) -> None:
    """Writes the tensors of a safetensors file as a bare state dict, mapping the file instead of
    loading it.

    Raises:
        ImportError: there is no torch.
    """
    torch = import_torch(path)

    def tensor(array: np.ndarray) -> Any:
        if array.dtype.kind == "V":  # numpy's name of types that it knows from ml_dtypes alone
            bits = torch.from_numpy(array.view(f"i{array.dtype.itemsize}"))
            return bits.view(getattr(torch, array.dtype.name))
        return torch.from_numpy(array)

    arrays = read_safetensors(safetensors)
    with warnings.catch_warnings():
        # Nor is it written to.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        torch.save({name: tensor(array) for name, array in arrays.items()}, path)
