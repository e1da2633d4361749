"""Torch's files, without torch: the zip format, and the one before torch 1.6.

Both hold a pickle of containers whose tensors point to storages beside it, and archives of
TorchScript one of modules. Pickles are followed
without calling anything (see `pickles`); storages are mapped.
"""

import pathlib
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from vlmo_jax.interop.tensor_files.archive import Archive
from vlmo_jax.interop.tensor_files.errors import TensorFileError, check_name, damaged, few, shown
from vlmo_jax.interop.tensor_files.names import is_counter_name
from vlmo_jax.interop.tensor_files.pickles import (
    MAX_BYTES,
    BrokenPickleError,
    CodeInPickleError,
    Persistent,
    Pickled,
    read_pickle,
)
from vlmo_jax.interop.tensor_files.scripts import in_scripts, is_script, module_tensors
from vlmo_jax.interop.tensor_files.torch_tensors import (
    DTYPES,
    TENSOR_CALLS,
    UnreadableTensorError,
    describe_storage,
    is_tensor,
    to_array,
)

# Under these keys checkpoints keep their tensors, the likeliest first.
WRAPPERS = (
    *("state_dict", "module", "model", "model_state_dict", "model_state"),
    *("ema_model", "model_ema", "state_dict_ema", "ema_state_dict", "ema", "net", "params"),
)
MAX_DEPTH = 8  # of wrappers in wrappers
OLD_MAGIC, OLD_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

# Beside the tensors themselves: plain containers, and the options and callbacks of BEiT's and
# Lightning's training.
_HARMLESS = {
    *("collections.OrderedDict", "collections.defaultdict", "collections.Counter"),
    *("builtins.set", "builtins.frozenset", "builtins.list", "builtins.dict", "builtins.tuple"),
    *("builtins.bytearray", "builtins.complex", "builtins.slice", "builtins.range"),
    *("_codecs.encode", "argparse.Namespace", "pathlib.PosixPath", "datetime.timedelta"),
    *("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    # By its class Lightning names what a callback keeps; sacred makes configs of its own kinds.
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "sacred.config.custom_containers.ReadOnlyDict",
    "sacred.config.custom_containers.ReadOnlyList",
    *(
        "torch.Size",
        "torch.device",
        "torch.Tensor",
        "torch.strided",
        "torch.serialization._get_layout",
    ),
    *("torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.per_tensor_affine"),
    *("torch.per_channel_affine", "torch.sparse_coo", "torch.sparse_csr", "torch.sparse_csc"),
    *("torch.sparse_bsr", "torch.sparse_bsc", "torch.contiguous_format", "torch.channels_last"),
}


def _allowed(name: str) -> bool:
    module, _, last = name.rpartition(".")
    if module in ("torch", "torch.cuda", "torch.storage") and last.endswith("Storage"):
        return True
    if module == "torch" and (last in DTYPES or last.startswith(("float", "bits", "q"))):
        return True
    return name in TENSOR_CALLS or name in _HARMLESS


def read_torch(path: pathlib.Path) -> tuple[dict[str, np.ndarray], str]:
    """Reads the tensors of a file of torch's.

    Returns:
        dict name -> array, views of the mapped file where it is not compressed; and what was left
        out beside the state dict, in words, "" if nothing.

    Raises:
        TensorFileError: the file is damaged, its pickle asks for code, or it holds no named
            tensors.
    """
    if zipfile.is_zipfile(path):
        content, read_storage = _open_zip(path)
    else:
        content, read_storage = _open_old(path)
    tensors, left_out = _state_dict(path, content)
    arrays = {}
    for name, call in tensors.items():
        try:
            arrays[check_name(path, name)] = to_array(call, read_storage)
        except UnreadableTensorError as error:
            raise TensorFileError(
                f"{path}: tensor {shown(name)} cannot be read: {error}"
            ) from error
    return arrays, left_out


ReadStorage = Callable[[Persistent], np.ndarray]


def _open_zip(path: pathlib.Path) -> tuple[Any, ReadStorage]:
    """What the pickle of a zip file holds, and the function that reads its storages."""
    archive = Archive(path)
    script = is_script(archive)
    pickles = [name for name in archive if name.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1:
        raise damaged(path, f"a zip file with {len(pickles)} members data.pkl, not one of torch's")
    root = pickles[0].removesuffix("data.pkl")
    if archive.size(pickles[0]) > MAX_BYTES:
        raise damaged(path, f"its pickle takes {archive.size(pickles[0]):,} bytes")
    order = f"{root}byteorder"
    if order in archive and archive.head(order, 16) != b"little":
        raise _other_order(path)

    def read_storage(persistent: Persistent) -> np.ndarray:
        storage = describe_storage(persistent)
        if storage.location == "meta":
            raise UnreadableTensorError("on the device `meta`, a shape without values")
        member = f"{root}data/{storage.key}"
        values = archive.read(member)
        if storage.number * storage.dtype.itemsize != values.nbytes:
            raise UnreadableTensorError(
                f"its storage {shown(member)} has {values.nbytes:,} bytes, not {storage.number:,}"
                f" of {storage.dtype}"
            )
        return values

    with zipfile.ZipFile(path) as opened, opened.open(pickles[0]) as file:
        if not script:
            return _read(path, file).content, read_storage
        found = _read(path, file, lambda name: _allowed(name) or in_scripts(name))
        return module_tensors(path, found.content), read_storage


def _other_order(path: pathlib.Path) -> TensorFileError:
    return TensorFileError(
        f"{path}: written on a machine of the other byte order; load and save it with torch on one"
        " like this"
    )


def _read(path: pathlib.Path, file: Any, allowed: Callable[[str], bool] = _allowed) -> Pickled:
    """One pickle of a file, refused in words that name what it asks for."""
    try:
        return read_pickle(file, allowed)
    except CodeInPickleError as error:
        raise TensorFileError(
            f"{path}: its pickle asks for code beside tensors, `{shown(error.name)}`, which could"
            " do anything, so it is refused and not loaded. If you trust it, load it where it was"
            " made and save its state_dict alone: torch.save(model.state_dict(), FILE)"
        ) from error
    except (BrokenPickleError, zipfile.BadZipFile, OSError, EOFError) as error:
        raise damaged(path, error) from error


def _open_old(path: pathlib.Path) -> tuple[Any, ReadStorage]:
    """As `_open_zip`, of the format before torch 1.6: five pickles, then for each storage the
    number of its elements and their bytes.
    """
    with path.open("rb") as file:
        first = _read(path, file).content
        if first != OLD_MAGIC:
            return first, _no_storage  # a plain pickle, which holds no tensors of torch's
        protocol, system = _read(path, file).content, _read(path, file).content
        if protocol != OLD_PROTOCOL or not isinstance(system, dict):
            raise damaged(path, f"protocol {shown(protocol)} of torch is not known")
        if system.get("little_endian") is False:
            raise _other_order(path)
        content, persistent = _read(path, file)
        keys = _read(path, file).content
        start = file.tell()
    storages = _old_storages(path, persistent, keys, start)

    def read_storage(persistent: Persistent) -> np.ndarray:
        storage = describe_storage(persistent)
        if storage.key not in storages:
            raise UnreadableTensorError(f"its storage {shown(storage.key)} is not in the file")
        values, size = storages[storage.key], storage.dtype.itemsize
        if storage.view is None:
            return values
        first, length = storage.view
        if (first + length) * size > values.nbytes:
            raise UnreadableTensorError("it lies outside of its storage")
        return values[first * size :][: length * size]

    return content, read_storage


def _no_storage(persistent: Persistent) -> np.ndarray:
    raise UnreadableTensorError("its storage is not in this file")


def _old_storages(
    path: pathlib.Path, persistent: list[Persistent], keys: Any, at: int
) -> dict[str, np.ndarray]:
    """Key -> bytes, views of the mapped file from `at` on."""
    sizes = {}
    for found in persistent:
        try:
            storage = describe_storage(found)
            sizes[storage.key] = storage.dtype.itemsize
        except UnreadableTensorError as error:
            raise TensorFileError(f"{path}: a tensor cannot be read: {error}") from error
    if not isinstance(keys, list) or set(keys) != set(sizes) or len(keys) != len(sizes):
        raise damaged(path, "its list of storages is not that of its tensors")
    mapped, storages = np.memmap(path, np.uint8, "r"), {}
    for key in keys:
        (number,) = struct.unpack("<q", mapped[at : at + 8].tobytes().ljust(8, b"\xff"))
        stop = at + 8 + number * sizes[key]
        if number < 0 or stop > len(mapped):
            raise damaged(path, f"storage {shown(key)} ends after the end of the file")
        storages[key], at = mapped[at + 8 : stop], stop
    return storages


def _state_dict(path: pathlib.Path, content: Any) -> tuple[dict[Any, Any], str]:
    """The named tensors of a checkpoint, and which of its keys beside them were left out.

    Raises:
        TensorFileError: there are none.
    """
    left_out: list[str] = []
    for _ in range(MAX_DEPTH):
        if not isinstance(content, dict):
            break
        inner = [key for key in WRAPPERS if _holds_tensors(content.get(key))]
        if not inner:
            break
        left_out += [shown(key) for key in content if key != inner[0]]
        content = _one_dict(content[inner[0]])
    if is_tensor(content):
        raise TensorFileError(f"{path}: holds a Tensor, not named tensors")
    if not isinstance(content, dict):
        raise TensorFileError(
            f"{path}: holds a {shown(getattr(content, 'name', type(content).__name__))}, not named"
            " tensors"
        )
    counters = {key for key, value in content.items() if _is_counter(key, value)}
    left_out += [shown(key) for key in counters]
    tensors = {key: value for key, value in content.items() if key not in counters}
    others = [str(key) for key, value in tensors.items() if not is_tensor(value)]
    if others:
        raise TensorFileError(
            f"{path}: {[shown(other) for other in others[:5]]} are no tensors; looked for tensors"
            f" under the keys {', '.join(WRAPPERS)} and at the top"
        )
    return tensors, few(left_out)


def _one_dict(value: Any) -> Any:
    """Several state dicts in a list, one a tower, as one: "0." before the names of the first."""
    if not isinstance(value, list):
        return value
    return {
        f"{number}.{key}": item for number, part in enumerate(value) for key, item in part.items()
    }


def _holds_tensors(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether this is a dict with a tensor in it, or with a wrapper that has one, or a list of
    dicts of tensors.
    """
    if isinstance(value, list) and value and depth == MAX_DEPTH:
        return all(isinstance(part, dict) and any(map(is_tensor, part.values())) for part in value)
    if not isinstance(value, dict) or not depth:
        return False
    if any(is_tensor(item) for item in value.values()):
        return True
    return any(_holds_tensors(value.get(key), depth - 1) for key in WRAPPERS)


def _is_counter(key: Any, value: Any) -> bool:
    """Whether this is a number that a wrapper keeps beside the weights."""
    return is_counter_name(str(key)) and isinstance(value, int | float)
