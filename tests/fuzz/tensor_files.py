"""Checkpoint files of others: every format, wrappers and types at random, whole, odd and damaged.

What is whole must come back value by value; what is damaged must be refused, or come back all the
same where the damage is in bytes that mean nothing.
"""

import contextlib
import io
import json
import struct
import zipfile

import ml_dtypes
import numpy as np

from tests.fuzz.case import Case, WrongError
from tests.interop.official_weights import weights
from tests.interop.torch_files import TorchFile, call, named, value
from vlmo_jax.commands.endings import UserError
from vlmo_jax.interop import convert as conversion
from vlmo_jax.interop.float32_tensors import as_float32
from vlmo_jax.interop.tensor_files import check_whole, read_tensors, write_safetensors

PREFIXES = (
    *("", "module.", "model.", "_orig_mod.", "ema_model.", "_fsdp_wrapped_module.", "state_dict."),
    "_forward_module.",
)
TYPES = (
    *("float32", "float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
    *("int64", "int32", "int8", "uint8", "uint16", "bool", "complex64"),
)
ONLY_HERE = ("bfloat16", "float8_e4m3fn", "float8_e5m2")  # types that .npz has no name for
NO_STORAGE = ("float8_e4m3fn", "float8_e5m2", "uint16")  # types of torch's newer way


def draw(rng):
    """One Case."""
    kinds = (_whole, _whole, _whole, _damaged, _damaged, _lying_header, _odd_torch, _odd_index)
    kinds = (*kinds, _something_else, _conversion)
    return kinds[rng.integers(len(kinds))](rng)


def _tensors(rng, types=TYPES):
    tensors = {}
    for number in range(rng.integers(1, 5)):
        dtype = rng.choice(types)
        shape = tuple(int(n) for n in rng.integers(0, 4, rng.integers(0, 4)))
        values = rng.integers(0, 2, shape) if dtype == "bool" else rng.normal(size=shape) * 50
        scale = 10.0 ** rng.integers(0, 8) if dtype in ("float64", "int64") else 1.0
        name = f"blocks.{number}.{rng.choice(['norm.weight', 'mlp.fc1.bias', 'x'])}"
        with np.errstate(all="ignore"):
            array = np.abs(values) if dtype.startswith("u") else values
            tensors[name] = np.asarray(array * scale).astype(getattr(ml_dtypes, dtype, dtype))
    return tensors


def _same(found, expected):
    if found.keys() != expected.keys():
        raise WrongError(f"names {sorted(found)}, not {sorted(expected)}")
    for name, array in expected.items():
        if found[name].dtype != array.dtype or found[name].shape != array.shape:
            raise WrongError(f"{name}: {found[name].dtype} {found[name].shape}")
        if found[name].tobytes() != array.tobytes():
            raise WrongError(f"{name}: other values")


def _as_conversion_reads(tensors):
    """Each tensor as float32 is exact, or refused by name."""
    for name, array in tensors.items():
        wide = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
        with np.errstate(all="ignore"):
            holds = array.dtype.kind != "c" and np.isfinite(wide).all()
            holds = holds and np.array_equal(wide.real.astype(np.float32), wide)
        try:
            exact = as_float32(name, array)
        except ValueError as error:
            if holds or name not in str(error):
                raise WrongError(f"refused: {error}") from error
        else:
            if not holds or not np.array_equal(exact, wide):
                raise WrongError(f"{name}: taken as other values")


def _torch_tensor(file, array):
    """A tensor in the way of its type, sometimes as a view with other strides."""
    if array.dtype.name in NO_STORAGE:
        return file.tensor(
            np.ascontiguousarray(array).view(np.uint8) if array.size else np.zeros(0, np.uint8),
            shape=array.shape,
            strides=tuple(n // array.itemsize for n in np.empty(array.shape, array.dtype).strides),
            kind="torch.storage.UntypedStorage",
            number=array.nbytes,
            function="torch._utils._rebuild_tensor_v3",
            more=(named(f"torch.{array.dtype.name}"),),
        )
    if array.ndim == 2 and array.size:
        turned = np.ascontiguousarray(array.T)
        return file.tensor(turned, shape=array.shape, strides=(1, array.shape[0]))
    return file.tensor(array)


def _write_torch(path, tensors, rng, **how):
    file = TorchFile()
    content = {name: _torch_tensor(file, np.array(array)) for name, array in tensors.items()}
    wrapper = rng.choice(["", "state_dict", "model", "module"])
    if wrapper:
        content = {wrapper: content, "epoch": 3, "args": call("argparse.Namespace")}
    return file.write(path, content, **how)


def _write(folder, tensors, form, rng):
    """Writes tensors in a form; says what to read, and all files of it."""
    if form == "safetensors":
        path = folder / "a.safetensors"
        write_safetensors(path, tensors)
    elif form == "npz":
        path = folder / "a.npz"
        rng.choice([np.savez, np.savez_compressed])(path, **tensors)
    elif form == "torch":
        method = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
        path = _write_torch(folder / "a.pt", tensors, rng, compression=method)
    elif form == "old torch":
        path = _write_torch(folder / "a.pth", tensors, rng, old=True)
    else:
        return folder, _write_shards(folder, tensors, form, rng)
    return path, [path]


def _write_shards(folder, tensors, form, rng):
    stem, ending = ("model", "safetensors") if form == "shards" else ("pytorch_model", "bin")
    places = {name: f"{stem}-0000{rng.integers(1, 3)}-of-00002.{ending}" for name in tensors}
    files = []
    for file in sorted(set(places.values())):
        its = {name: tensors[name] for name in tensors if places[name] == file}
        files.append(folder / file)
        if form == "shards":
            write_safetensors(folder / file, its)
        else:
            file = TorchFile()
            file.write(
                files[-1], {name: _torch_tensor(file, np.array(a)) for name, a in its.items()}
            )
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"weight_map": places}))
    return files


FORMS = ("safetensors", "npz", "torch", "old torch", "shards", "torch shards")


def _drawn(rng):
    form = rng.choice(FORMS)
    types = tuple(t for t in TYPES if form != "npz" or t not in ONLY_HERE)
    return form, _tensors(rng, types)


def _whole(rng):
    form, tensors = _drawn(rng)
    prefix = "".join(rng.choice(PREFIXES, rng.integers(0, 4)))
    counters = ["n_averaged", "num_batches_tracked"] if rng.random() < 0.3 else []
    wrapped = {prefix + name: array for name, array in tensors.items()}
    wrapped |= {prefix + name: np.asarray(3) for name in counters}

    def run(folder):
        path, _ = _write(folder, wrapped, form, rng)
        check_whole(path)
        found = read_tensors(path)
        _same(found, tensors)
        if (prefix or counters) and not all(
            word in found.taken_off for word in (prefix, *counters)
        ):
            raise WrongError(f"nothing is said of {prefix} {counters}: {found.taken_off}")
        _as_conversion_reads(found)

    return Case(f"{form} with {prefix!r} and {counters}", run)


def _damaged(rng):
    form, tensors = _drawn(rng)
    how = rng.choice(["cut", "flip", "zero", "insert", "remove"])

    def run(folder):
        path, files = _write(folder, tensors, form, rng)
        file = files[rng.integers(len(files))]
        content, at = bytearray(file.read_bytes()), 0
        if form in ("safetensors", "shards", "old torch") and how in ("flip", "zero"):
            # Nothing in these formats tells of other values; lengths and headers do.
            content[:8] = rng.integers(0, 256, 8, np.uint8).tobytes()
        else:
            at = int(rng.integers(len(content)))
            content = _damage(content, at, how, rng)
        if form in ("safetensors", "shards", "old torch") and how == "insert":
            content += b"more"
        if how == "remove" and form in ("shards", "torch shards"):
            file.unlink()
        elif bytes(content) == file.read_bytes():
            return
        else:
            file.write_bytes(content)
        check_whole(path)
        found = read_tensors(path)
        if form not in ("safetensors", "shards", "old torch"):
            _same(found, tensors)
        for array in found.values():
            array.tobytes()

    return Case(f"{form}, damaged: {how}", run)


def _damage(content, at, how, rng):
    if how == "cut":
        return content[:at]
    if how == "flip":
        content[at] ^= 1 << int(rng.integers(8))
    elif how == "zero":
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    elif how == "insert":
        content[at:at] = rng.integers(0, 256, 5, np.uint8).tobytes()
    else:
        del content[at : at + int(rng.integers(1, 9))]
    return content


ODD = (-1, 2**40, 2**63, 2**70, 1.5, None, "3", True, [], {}, [-1, -1], "F32", float("nan"), "../a")


def _lying_header(rng):
    """A safetensors header with one thing in it that is not as it was."""
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    field, odd = str(rng.choice(list(entry))), ODD[rng.integers(len(ODD))]
    place = rng.integers(3)
    if place == 0:
        entry[field] = odd
    elif place == 1 and field != "dtype":
        entry[field][rng.integers(2)] = odd
    elif place == 1:
        entry = {"nested": entry}
    else:
        del entry[field]
    text = json.dumps({"x.weight": entry}).encode()
    if rng.random() < 0.2:
        text = b'{"x.weight": {}, ' + text[1:]
    length = int(rng.choice([len(text)] * 5 + [2**32, 2**62, 0]))

    def run(folder):
        content = struct.pack("<Q", length) + text + bytes(24)
        (folder / "a.safetensors").write_bytes(content)
        found = read_tensors(folder / "a.safetensors")
        if (field, odd, length) != ("dtype", "F32", len(text)) or found["x.weight"].any():
            raise WrongError("taken")

    return Case(f"header {text[:200]!r} of {length}", run)


def _odd_torch(rng):
    """A tensor of torch's that cannot be had, beside one that can, or code."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    odd = [-1, 2**31, 2**62, 2**70, 1.5, None, "x", True, (), (1,)][rng.integers(10)]
    choice = int(rng.integers(9))
    names = ("os.system", "builtins.exec", "torch.load", "numpy.load", "subprocess.Popen", "a.b")
    function = str(rng.choice(names))

    def tensor(file):
        return (
            lambda: file.tensor(array, shape=(2, odd)),
            lambda: file.tensor(array, strides=(odd, 1)),
            lambda: file.tensor(array, offset=odd),
            lambda: file.tensor(array, number=odd),
            lambda: file.tensor(array, key=str(odd)),
            lambda: file.tensor(array, function="torch._utils._rebuild_qtensor"),
            lambda: file.tensor(array, location="meta"),
            lambda: call(function, f"touch {odd}"),
            lambda: value(odd),
        )[choice]()

    def run(folder):
        file = TorchFile()
        content = {"fine": file.tensor(array), "odd": tensor(file)}
        old = bool(rng.integers(2))
        found = read_tensors(file.write(folder / "a.pt", content, old=old))
        # Old files hold the number of elements beside the storage, and forget the device.
        harmless = (choice == 3 and odd is None) or (old and choice in (3, 6))
        if not harmless or not np.array_equal(found["odd"], array):
            raise WrongError("taken")

    return Case(f"torch's file with odd thing {choice}: {odd!r}, {function}", run)


def _odd_index(rng):
    tensors = _tensors(rng, ("float32",))
    odd = rng.choice(["../a.bin", "/etc/passwd", "nothing.safetensors", "a\0b", "", "config.json"])
    choice = int(rng.integers(4))

    def run(folder):
        _, files = _write(folder, tensors, "shards", rng)
        index = folder / "model.safetensors.index.json"
        places = json.loads(index.read_text())["weight_map"]
        first = next(iter(places))
        if choice == 0:
            places[first] = str(odd)
        elif choice == 1:
            places["not.there"] = files[0].name
        elif choice == 2:
            del places[first]
        else:
            places[first] = [None, 3, [], {}][rng.integers(4)]
        (folder / "config.json").write_text("{}")
        index.write_text(json.dumps({"weight_map": places}))
        found = read_tensors(folder)
        # A shard that an index does not name at all is not looked for.
        if choice != 2 or first in found or not found.keys() <= tensors.keys():
            raise WrongError("taken")

    return Case(f"index of shards, odd thing {choice}: {odd!r}", run)


def _something_else(rng):
    contents = (
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 1\n",
        b"<!doctype html><html><body>Sign in</body></html>",
        b'{"error": "not found"}',
        b"\x1f\x8b\x08\x00",
        b"PK\x05\x06" + bytes(18),
        rng.integers(0, 256, int(rng.integers(1, 400)), np.uint8).tobytes(),
    )
    content = contents[rng.integers(len(contents))]
    suffix = str(
        rng.choice([".pt", ".pth", ".bin", ".ckpt", ".pkl", ".safetensors", ".npz", ".h5"])
    )

    def run(folder):
        (folder / f"a{suffix}").write_bytes(content)
        read_tensors(folder / f"a{suffix}")
        raise WrongError("taken")

    return Case(f"{suffix} with {content[:40]!r}", run)


def _conversion(rng):
    """A whole conversion of a VLMo with one tensor that is not as it should be."""
    tensors = dict(weights("tiny_base_vqa"))
    optional = "text_embeddings.position_embeddings.weight"  # beside a relative table
    names = [n for n in tensors if tensors[n].dtype == np.float32 and n != optional]
    name = str(rng.choice(names))
    how = str(
        rng.choice(["nothing", "missing", "renamed", "shape", "empty", "nan", "wider", "0.1"])
    )
    array = tensors.pop(name)
    if how == "nothing":
        tensors[name] = array
    elif how == "renamed":
        tensors[f"{name}_"] = array
    elif how == "shape":
        tensors[name] = np.zeros((*array.shape, 2), np.float32)
    elif how == "empty":
        tensors[name] = np.zeros((0, *array.shape[1:]), np.float32)
    elif how == "nan":
        tensors[name] = np.full(array.shape, np.nan, np.float32)
    elif how != "missing":
        tensors[name] = array.astype(np.float64) if how == "wider" else np.full(array.shape, 0.1)
    fine = how in ("nothing", "wider")

    def run(folder):
        write_safetensors(folder / "a.safetensors", tensors)
        quiet = contextlib.ExitStack()
        quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
        quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
        try:
            with quiet:
                conversion.convert(folder / "a.safetensors", folder / "b", "vlmo", image_size=32)
        except UserError as error:
            if fine:
                raise WrongError(f"refused: {error}") from error
            raise
        if not fine:
            raise WrongError("taken")
        back = conversion.export(folder / "b", folder / "c", "vlmo")
        _same(read_tensors(back), tensors)

    return Case(f"a VLMo whose {name} is {how}", run)
