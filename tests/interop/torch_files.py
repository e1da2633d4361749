"""Files in torch's formats, made by hand: what torch would write, and what nobody should."""

import pickle
import struct
import zipfile

import numpy as np

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
}


class Code(bytes):
    """Instructions of a pickle that leave one value on the stack."""


def value(item):
    """The instructions that make a value: a Code, a container with Codes in it, or a plain one."""
    if isinstance(item, Code):
        return item
    if isinstance(item, dict):
        pairs = b"".join(value(key) + value(its) for key, its in item.items())
        return Code(b"}(" + pairs + b"u")
    if isinstance(item, list | tuple):
        items = b"".join(map(value, item))
        return Code(b"(" + items + (b"l" if isinstance(item, list) else b"t"))
    return Code(pickle.dumps(item, 2)[2:-1])


def named(name):
    """Something of a module, such as "torch.FloatStorage"."""
    module, _, last = name.rpartition(".")
    return Code(f"c{module}\n{last}\n".encode())


def call(name, *args):
    return Code(named(name) + value(args) + b"R")


def module(name, **parts):
    """A module of TorchScript, as torch.jit.save pickles it: an object whose attributes are set."""
    return Code(named(f"__torch__.{name}") + b")\x81" + value(parts) + b"b")


def whole(item, protocol=2):
    """A pickle of a value."""
    return b"\x80" + bytes([protocol]) + value(item) + b"."


class TorchFile:
    """Tensors with their storages, as they come; then a file of them."""

    def __init__(self):
        self.storages = {}

    def storage(self, array, *, kind=None, number=None, location="cpu", key=None):
        """What stands for a storage with the bytes of an array."""
        if key is None:
            key = str(len(self.storages))
            self.storages[key] = np.ascontiguousarray(array)
        kind = kind or f"torch.{STORAGES[array.dtype.name]}"
        number = array.size if number is None else number
        return Code(value(("storage", named(kind), key, location, number)) + b"Q")

    def tensor(
        self, array, *, shape=None, strides=None, offset=0, function=None, more=(), **storage
    ):
        """A tensor with the values of an array, or with other ones of its storage."""
        array = np.asarray(array)
        strides = strides or tuple(
            n // array.itemsize for n in np.empty_like(array, order="C").strides
        )
        return call(
            function or "torch._utils._rebuild_tensor_v2",
            self.storage(array, **storage),
            offset,
            array.shape if shape is None else shape,
            strides,
            False,
            call("collections.OrderedDict"),
            *more,
        )

    def write_script(self, path, module):
        """Writes an archive of TorchScript, whose data are a module: see `module`."""
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", whole(module))
            archive.writestr("model/constants.pkl", whole(()))
            archive.writestr("model/code/__torch__/clip.py", "def forward(self): raise SystemExit")
            archive.writestr("model/code/__torch__/clip.py.debug_pkl", b"\x80\x02).")
            for key, array in self.storages.items():
                archive.writestr(f"model/data/{key}", array.tobytes())
            archive.writestr("model/version", "3\n")
        return path

    def write(self, path, content, *, old=False, compression=zipfile.ZIP_STORED, protocol=2):
        """Writes a checkpoint in the format of today, or in that before torch 1.6."""
        if old:
            heads = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, content]
            with path.open("wb") as file:
                for head in [*heads, list(self.storages)]:
                    file.write(whole(head, protocol))
                for array in self.storages.values():
                    file.write(struct.pack("<q", array.size) + array.tobytes())
            return path
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("archive/data.pkl", whole(content, protocol))
            archive.writestr("archive/byteorder", "little")
            for key, array in self.storages.items():
                archive.writestr(f"archive/data/{key}", array.tobytes())
            archive.writestr("archive/version", "3\n")
        return path
