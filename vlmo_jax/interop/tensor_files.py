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

import ml_dtypes
import numpy as np

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


class TensorFileError(ValueError):
    """A file that holds no tensors that can be read; the message names the file and what is wrong."""


def read_tensors(path):
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
    path = _deepspeed_file(pathlib.Path(path).expanduser())
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix not in SUFFIXES:
        raise TensorFileError(
            f"{path}: suffix {path.suffix!r} is not known; use one of {', '.join(SUFFIXES)}"
        )
    read = {".safetensors": read_safetensors, ".npz": _read_npz}.get(path.suffix, _read_torch)
    tensors = read(path)
    for prefix in [p for _ in PREFIXES for p in PREFIXES]:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if not tensors:
        raise TensorFileError(f"{path}: holds no tensors")
    return tensors


def is_mapped(path):
    """Whether `read_tensors` gives views of the file, so that reading again costs nothing."""
    path = _deepspeed_file(pathlib.Path(path).expanduser())
    return (
        path.suffix == ".safetensors" or path.suffix in TORCH_SUFFIXES and zipfile.is_zipfile(path)
    )


def _deepspeed_file(path):
    if not path.is_dir():
        return path
    files = sorted(path.rglob("mp_rank_*_model_states.pt"))
    if len(files) != 1:
        raise TensorFileError(
            f"{path}: a folder with {len(files)} files mp_rank_*_model_states.pt; give a file, or a"
            " DeepSpeed folder with exactly one"
        )
    return files[0]


def _damaged(path, error):
    first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return TensorFileError(
        f"{path}: damaged or cut, or not what its suffix says ({first}); copy or download it again"
    )


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, KeyError) as error:
        if "allow_pickle" in str(error) and zipfile.is_zipfile(path):
            raise TensorFileError(
                f"{path}: holds pickled Python objects, which may carry code; save plain arrays"
            ) from error
        raise _damaged(path, error) from error


def _read_torch(path):
    torch = import_torch(path, "reading")
    try:
        with torch.serialization.safe_globals(
            [argparse.Namespace]
        ):  # plain attributes: the options of BEiT's training
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
    while isinstance(content, dict) and not any(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        inner = [content[key] for key in WRAPPERS if isinstance(content.get(key), dict)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, dict):
        raise TensorFileError(f"{path}: holds a {type(content).__name__}, not named tensors")
    others = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise TensorFileError(
            f"{path}: {others[:5]} are no tensors; looked for tensors under the keys"
            f" {', '.join(WRAPPERS)} and at the top"
        )
    return {name: _to_numpy(torch, tensor) for name, tensor in content.items()}


def _load_torch(torch, path):
    """Loads with torch's own restricted unpickler, which builds tensors and containers and runs
    nothing else.
    """
    if zipfile.is_zipfile(path):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return torch.load(
        path, map_location="cpu", weights_only=True
    )  # the format before torch 1.6 cannot be mapped


def _refused(path, error):
    """The error for a pickle that asks for more than tensors, or that is none."""
    text = str(error)
    if "lobal" not in text and "class" not in text and "nsupported operand" not in text:
        return _damaged(path, error)
    asked = next(
        (line.strip() for line in text.splitlines() if "GLOBAL" in line or "lobal" in line), ""
    )[:200]
    return TensorFileError(
        f"{path}: its pickle asks for code beside tensors, which could do anything, so it is not"
        f" loaded ({asked}). If you trust it, load it where it was made and save its state_dict"
        " alone: torch.save(model.state_dict(), FILE)"
    )


def _to_numpy(torch, tensor):
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def read_safetensors(path):
    """Reads a safetensors file: dict name -> read-only view of the mapped file.

    Raises:
        TensorFileError: the file is cut, damaged, or of types that numpy lacks.
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
            name: (SAFETENSORS_TYPES[e["dtype"]], tuple(e["shape"]), *e["data_offsets"])
            for name, e in header.items()
        }
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    end = 0
    for name, (dtype, shape, start, stop) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if start != end or stop - start != math.prod(shape) * dtype.itemsize:
            raise _damaged(path, f"tensor {name} has a wrong place or length")
        end = stop
    if 8 + length + end != size:
        raise _damaged(path, f"{size} bytes instead of {8 + length + end}")
    if not end:
        return {name: np.zeros(shape, dtype) for name, (dtype, shape, _, _) in entries.items()}
    data = np.memmap(path, np.uint8, "r", offset=8 + length)
    return {
        name: data[start:stop].view(dtype).reshape(shape)
        for name, (dtype, shape, start, stop) in entries.items()
    }


def write_safetensors(path, tensors, bar=None):
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


def import_torch(path, doing):
    """The torch module, or an ImportError that says why `path` needs it and how to do without."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path}: {doing} {path.suffix} files needs torch; install it with `pip install"
            ' "vlmo-jax[convert]"`, or use .safetensors'
        ) from error
    return torch


def write_torch(path, safetensors):
    """Writes the tensors of a safetensors file as a bare state dict, mapping the file instead of
    loading it.

    Raises:
        ImportError: there is no torch.
    """
    torch = import_torch(path, "writing")

    def tensor(array):
        if array.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The given NumPy array is not writable"
        )  # and is not written to
        torch.save(
            {name: tensor(array) for name, array in read_safetensors(safetensors).items()}, path
        )
