"""The tensors of whatever a path stands for."""

import pathlib
import zipfile

import numpy as np

from vlmo_jax.commands.paths import user_path
from vlmo_jax.interop.tensor_files.archive import check_sums
from vlmo_jax.interop.tensor_files.errors import TensorFileError, few, refuse_other_files
from vlmo_jax.interop.tensor_files.folders import Source, find_files
from vlmo_jax.interop.tensor_files.names import unwrap_names
from vlmo_jax.interop.tensor_files.npz import read_npz
from vlmo_jax.interop.tensor_files.safetensors import read_safetensors
from vlmo_jax.interop.tensor_files.torch_files import read_torch

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors", ".npz")


class NamedTensors(dict[str, np.ndarray]):
    """Name -> array.

    Attributes:
        taken_off: what was taken off names and left out beside them, in words, "" if nothing.
    """

    taken_off: str = ""


def read_tensors(path: str | pathlib.Path) -> NamedTensors:
    """Reads the tensors of a checkpoint.

    Wrappers are taken off: keys such as `state_dict`, and prefixes such as `module.` that all names
    share.

    Args:
        path: of a file, whose suffix tells the format; of an index of shards; of a folder of
            transformers, or of DeepSpeed with one part.

    Returns:
        Name -> numpy array, views of the files where the format allows it.

    Raises:
        FileNotFoundError: no such file, or a shard is missing.
        TensorFileError: an unknown suffix, a damaged file, a pickle with code in it, or no tensors.
    """
    source = find_files(user_path(path))
    tensors: dict[str, np.ndarray] = {}
    homes: dict[str, pathlib.Path] = {}
    words = []
    for file in source.files:
        found, beside = _read_file(file)
        if twice := sorted(found.keys() & homes.keys()):
            raise TensorFileError(f"{file}: {few(twice)} stands in {homes[twice[0]].name} too")
        homes |= dict.fromkeys(found, file)
        tensors |= found
        words += [f"left out {beside}"] if beside else []
    _compare_with_index(source, homes)
    if not tensors:
        raise TensorFileError(f"{path}: holds no tensors")
    plain, taken_off = unwrap_names(path, tensors)
    if not plain:
        raise TensorFileError(f"{path}: holds no tensors but counters")
    if source.left_out:
        words.append(f"read {source.files[0].name}, not {source.left_out}")
    named = NamedTensors(plain)
    named.taken_off = "; ".join(filter(None, (taken_off, *dict.fromkeys(words))))
    return named


def _read_file(path: pathlib.Path) -> tuple[dict[str, np.ndarray], str]:
    """The tensors of a file as they stand there, and what was left out beside them, in words."""
    if path.suffix not in SUFFIXES:
        raise TensorFileError(
            f"{path}: suffix {path.suffix!r} is not known; use one of {', '.join(SUFFIXES)}"
        )
    refuse_other_files(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path), ""
    if path.suffix == ".npz":
        return read_npz(path), ""
    return read_torch(path)


def _compare_with_index(source: Source, homes: dict[str, pathlib.Path]) -> None:
    """Refuses shards that do not hold what their index says."""
    if source.places is None:
        return
    for name, file in source.places.items():
        if homes.get(name) != file:
            raise TensorFileError(
                f"{file}: tensor {few([name])} is not in it, though the index says so; download all"
                " shards of one version"
            )
    if extra := sorted(homes.keys() - source.places.keys()):
        raise TensorFileError(
            f"{homes[extra[0]]}: holds {few(extra)}, which the index does not name; download all"
            " shards of one version"
        )


def is_mapped(path: str | pathlib.Path) -> bool:
    """Whether `read_tensors` gives views of the files, so that reading again costs nothing."""
    return all(
        file.suffix == ".safetensors" or file.suffix in TORCH_SUFFIXES and zipfile.is_zipfile(file)
        for file in find_files(user_path(path)).files
    )


def check_whole(path: str | pathlib.Path) -> None:
    """Compares the content of files with the checksums that their format has, if it has any.

    Raises:
        TensorFileError: some of it is not as it was written.
    """
    for file in find_files(user_path(path)).files:
        if file.suffix != ".safetensors" and zipfile.is_zipfile(file):
            check_sums(file)
