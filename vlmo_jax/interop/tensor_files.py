"""Files of named tensors: .pt/.pth/.ckpt of PyTorch, .safetensors and .npz.

Tensors are views of the mapped file wherever the format allows it, so that reading a large
checkpoint costs no memory of its own. Safetensors is a length, a JSON header and raw bytes: it is
read and written here a tensor at a time, since the package builds whole files in memory. Torch is
needed for its own format alone.
"""

import argparse
import json
import math
import pathlib
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.paths import user_path

TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors", ".npz")
# Under these keys checkpoints keep their tensors; with these prefixes wrappers name them.
WRAPPERS = ("state_dict", "module", "model")
PREFIXES = ("module.", "model.", "_forward_module.", "state_dict.")

SAFETENSORS_TYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
MAX_HEADER = 100_000_000  # bytes, the format's own limit


class TensorFileError(UserError, ValueError):
    """A file without tensors that can be read; the message names it and says what is wrong."""


def read_tensors(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint file, or of a DeepSpeed folder with one part.

    Wrappers are taken off: the keys `state_dict`, `module` and `model`, and prefixes such as
    `module.` that all names share.

    Args:
        path: of the file; its suffix tells the format.

    Returns:
        dict name -> numpy array, views of the file where the format allows it.

    Raises:
        FileNotFoundError: no such file.
        TensorFileError: an unknown suffix, a damaged file, a pickle with code in it, or no tensors.
        ImportError: a PyTorch file without torch.
    """
    path = _deepspeed_file(user_path(path))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix not in SUFFIXES:
        raise TensorFileError(
            f"{path}: suffix {path.suffix!r} is not known; use one of {', '.join(SUFFIXES)}"
        )
    read = {".safetensors": read_safetensors, ".npz": _read_npz}.get(path.suffix, _read_torch)
    tensors = read(path)
    if not tensors:
        raise TensorFileError(f"{path}: holds no tensors")
    while prefix := _shared_prefix(tensors):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _shared_prefix(names: Mapping[str, np.ndarray]) -> str | None:
    """The prefix of PREFIXES that all names begin with, or None."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in names):
            return prefix
    return None


def is_mapped(path: str | pathlib.Path) -> bool:
    """Whether `read_tensors` gives views of the file, so that reading again costs nothing."""
    path = _deepspeed_file(user_path(path))
    if path.suffix in TORCH_SUFFIXES:
        return zipfile.is_zipfile(path)
    return path.suffix == ".safetensors"


def _deepspeed_file(path: pathlib.Path) -> pathlib.Path:
    if not path.is_dir():
        return path
    files = sorted(path.rglob("mp_rank_*_model_states.pt"))
    if len(files) != 1:
        raise TensorFileError(
            f"{path}: a folder with {len(files)} files mp_rank_*_model_states.pt; give a file, or a"
            " DeepSpeed folder with exactly one"
        )
    return files[0]


def _damaged(path: pathlib.Path, error: Exception | str) -> TensorFileError:
    lines = str(error).strip().splitlines()
    reason = lines[0][:200] if lines else type(error).__name__
    return TensorFileError(
        f"{path}: damaged or cut, or not what its suffix says ({reason}); copy or download it again"
    )


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, KeyError) as error:
        if "allow_pickle" in str(error) and zipfile.is_zipfile(path):
            raise TensorFileError(
                f"{path}: holds pickled Python objects, which may carry code; save plain arrays"
            ) from error
        raise _damaged(path, error) from error


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    torch = import_torch(path, "reading")
    try:
        # Plain attributes: the options of BEiT's training.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = _load_torch(torch, path)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
        struct.error,
    ) as error:
        raise _damaged(path, error) from error
    content = _unwrapped(torch, content)
    if not isinstance(content, dict):
        raise TensorFileError(f"{path}: holds a {type(content).__name__}, not named tensors")
    others = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise TensorFileError(
            f"{path}: {others[:5]} are no tensors; looked for tensors under the keys"
            f" {', '.join(WRAPPERS)} and at the top"
        )
    return {name: _to_numpy(torch, tensor) for name, tensor in content.items()}


def _load_torch(torch: ModuleType, path: pathlib.Path) -> Any:
    """Loads with torch's own restricted unpickler, which builds tensors and containers and runs
    nothing else.
    """
    # The format before torch 1.6 is no zip file and cannot be mapped.
    mapped = {"mmap": True} if zipfile.is_zipfile(path) else {}
    return torch.load(path, map_location="cpu", weights_only=True, **mapped)


def _unwrapped(torch: ModuleType, content: Any) -> Any:
    """What the keys WRAPPERS hold, as long as there are no tensors beside them."""
    if not isinstance(content, dict):
        return content
    if any(isinstance(value, torch.Tensor) for value in content.values()):
        return content
    for key in WRAPPERS:
        if isinstance(content.get(key), dict):
            return _unwrapped(torch, content[key])
    return content


def _refused(path: pathlib.Path, error: pickle.UnpicklingError) -> TensorFileError:
    """The error for a pickle that asks for more than tensors, or that is none."""
    text = str(error)
    if not any(word in text.lower() for word in ("global", "class", "unsupported operand")):
        return _damaged(path, error)
    about_globals = [line.strip() for line in text.splitlines() if "global" in line.lower()]
    asked = about_globals[0][:200] if about_globals else ""
    return TensorFileError(
        f"{path}: its pickle asks for code beside tensors, which could do anything, so it is not"
        f" loaded ({asked}). If you trust it, load it where it was made and save its state_dict"
        " alone: torch.save(model.state_dict(), FILE)"
    )


def _to_numpy(torch: ModuleType, tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


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


class _Entry(NamedTuple):
    """A tensor of a safetensors file: its type, shape, and bytes `start` to `stop` of the data."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


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
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        entries = {
            name: _Entry(SAFETENSORS_TYPES[e["dtype"]], tuple(e["shape"]), *e["data_offsets"])
            for name, e in header.items()
        }
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != end or entry.stop - end != math.prod(entry.shape) * entry.dtype.itemsize:
            raise _damaged(path, f"tensor {name} has a wrong place or length")
        end = entry.stop
    if 8 + length + end != size:
        raise _damaged(path, f"{size} bytes instead of {8 + length + end}")
    return 8 + length, entries


def write_safetensors(
    path: pathlib.Path, tensors: Mapping[str, np.ndarray], bar: Any = None
) -> None:
    """Writes a safetensors file, one tensor in memory at a time.

    Args:
        path: of the file.
        tensors: mapping name -> numpy array of any memory layout.
        bar: has `update()`, called once a tensor; or None.
    """
    names = {dtype: name for name, dtype in SAFETENSORS_TYPES.items()}
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


def import_torch(path: pathlib.Path, doing: str) -> ModuleType:
    """The torch module, or an ImportError that says why `path` needs it and how to do without."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path}: {doing} {path.suffix} files needs torch; install it with `pip install"
            ' "vlmo-jax[convert]"`, or use .safetensors'
        ) from error
    return torch


def write_torch(path: pathlib.Path, safetensors: pathlib.Path) -> None:
    """Writes the tensors of a safetensors file as a bare state dict, mapping the file instead of
    loading it.

    Raises:
        ImportError: there is no torch.
    """
    torch = import_torch(path, "writing")

    def tensor(array: np.ndarray) -> Any:
        if array.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    arrays = read_safetensors(safetensors)
    with warnings.catch_warnings():
        # Nor is it written to.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        torch.save({name: tensor(array) for name, array in arrays.items()}, path)
