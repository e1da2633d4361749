"""Tensors as torch pickles them: a storage, and where in it the values lie."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from vlmo_jax.datasets.pickles import Call, Global, Persistent
from vlmo_jax.interop.tensor_files.errors import shown

DTYPES = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint64": np.dtype("<u8"),
    "uint32": np.dtype("<u4"),
    "uint16": np.dtype("<u2"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
}
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
QUANTISED = {
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
    "QUInt4x2Storage": "uint8",
    "QUInt2x4Storage": "uint8",
}
_PARAMETERS = (
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
)
_OF_TYPE = "torch._tensor._rebuild_from_type_v2"
_PLAIN = (
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
)
# Tensors that are not a piece of a storage, and what to do about them.
_OTHERS = {
    "torch._utils._rebuild_sparse_tensor": "sparse; save tensor.to_dense()",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse; save tensor.to_dense()",
    "torch._utils._rebuild_qtensor": "quantised; save tensor.dequantize()",
    "torch._utils._rebuild_meta_tensor_no_storage": (
        "on the device `meta`, a shape without values; load the model before it is saved"
    ),
    "torch._utils._rebuild_nested_tensor": "nested; save its parts as tensors of their own",
    "torch._utils._rebuild_device_tensor_from_numpy": (
        "of a device that keeps it as an array; save tensor.cpu()"
    ),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": (
        "of a device that keeps it elsewhere; save tensor.cpu()"
    ),
    "torch._utils._rebuild_wrapper_subclass": (
        "of a class of its own around other tensors; save a plain tensor"
    ),
}
TENSOR_CALLS = frozenset((*_PARAMETERS, _OF_TYPE, *_PLAIN, *_OTHERS))
# A tensor may repeat its storage; beyond this it was made to fill the memory.
MAX_REPEATED_BYTES = 2**28


class UnreadableTensorError(ValueError):
    """A tensor cannot be had as an array; the message says why, without its name."""


def is_tensor(value: Any) -> bool:
    """Whether what a pickle holds is a tensor of any sort."""
    return isinstance(value, Call) and value.name in TENSOR_CALLS


def to_array(call: Any, read_storage: Callable[[Persistent], np.ndarray]) -> np.ndarray:
    """The values of a tensor, a view of its storage.

    Args:
        call: a tensor in the sense of `is_tensor`.
        read_storage: function of what stands for a storage in the pickle that gives its bytes.

    Raises:
        UnreadableTensorError: it is of no kind that has values here, or points outside of its
            storage.
    """
    if not is_tensor(call):
        raise UnreadableTensorError("a parameter of something else than a tensor")
    if call.name in _OTHERS:
        raise UnreadableTensorError(_OTHERS[call.name])
    if call.name in _PARAMETERS:
        return to_array(call.args[0] if call.args else None, read_storage)
    if call.name == _OF_TYPE:
        function, args = (call.args[0], call.args[2]) if len(call.args) > 2 else (None, None)
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise UnreadableTensorError("of a class that is not known")
        return to_array(Call(function.name, args), read_storage)
    return _view(call, read_storage)


def _view(call: Call, read_storage: Callable[[Persistent], np.ndarray]) -> np.ndarray:
    if len(call.args) < 4:
        raise UnreadableTensorError("without storage, offset, shape and strides")
    storage, offset, shape, strides, *rest = call.args
    if any(isinstance(part, dict) and part.get("neg") for part in rest):
        raise UnreadableTensorError("a negated view of its storage; save tensor.resolve_neg()")
    if any(isinstance(part, dict) and part.get("conj") for part in rest):
        raise UnreadableTensorError("a conjugated view; save tensor.resolve_conj()")
    if not isinstance(storage, Persistent):
        raise UnreadableTensorError("without a storage")
    described = describe_storage(storage)
    if described.quantised:
        raise UnreadableTensorError(_OTHERS["torch._utils._rebuild_qtensor"])
    dtype = described.dtype
    if call.name.endswith("_v3"):
        dtype = _dtype_of_v3(rest)
    elif len(rest) > 2 and isinstance(rest[2], Global):
        dtype = _dtype_named(rest[2].name)
    for numbers in (shape, strides, (offset,)):
        if not isinstance(numbers, tuple) or not all(
            type(n) is int and 0 <= n < 2**62 for n in numbers
        ):
            raise UnreadableTensorError(
                f"its shape {shown(shape)}, strides {shown(strides)} and offset {shown(offset)} are"
                " not all whole numbers from 0 on"
            )
    if len(shape) != len(strides) or len(shape) > 32:
        raise UnreadableTensorError(f"{len(strides)} strides for {len(shape)} axes")
    values = read_storage(storage)
    if values.nbytes % dtype.itemsize:
        raise UnreadableTensorError(f"its storage of {values.nbytes:,} bytes holds no {dtype}")
    number, size = values.nbytes // dtype.itemsize, dtype.itemsize
    _check_view(shape, strides, offset, number, size)
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.ndarray(shape, dtype, values, offset * size, [stride * size for stride in strides])


def _check_view(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int, number: int, size: int
) -> None:
    """Refuses a view that reaches outside of its storage of `number` elements of `size` bytes, or
    repeats it without end.
    """
    nbytes = math.prod(length or 1 for length in shape) * size
    if nbytes >= 2**62:
        raise UnreadableTensorError(f"its shape {shown(shape)} is beyond all memory")
    if 0 in shape:
        return
    last = offset + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
    if last >= number:
        raise UnreadableTensorError(
            f"shape {shown(shape)}, strides {shown(strides)} and offset {offset} reach element"
            f" {last:,} of a storage of {number:,}"
        )
    if nbytes > max(4 * number * size, MAX_REPEATED_BYTES):
        raise UnreadableTensorError(
            f"its strides repeat {number * size:,} bytes up to {nbytes:,}; save tensor.clone()"
        )


def _dtype_of_v3(rest: list[Any]) -> np.dtype:
    if len(rest) < 3 or not isinstance(rest[2], Global):
        raise UnreadableTensorError("without a type")
    return _dtype_named(rest[2].name)


def _dtype_named(name: str) -> np.dtype:
    dtype = DTYPES.get(name.removeprefix("torch."))
    if dtype is None:
        raise UnreadableTensorError(f"of type {shown(name)}, which is not known here")
    return dtype


class Storage(NamedTuple):
    """What a pickle says of a storage.

    Attributes:
        dtype: of its elements.
        key: its name in the file.
        location: the device it was on.
        number: of elements.
        view: first element and number of elements of a part of it, or None for all; of old files.
        quantised: whether the elements stand for other numbers.
    """

    dtype: np.dtype
    key: str
    location: Any
    number: int
    view: tuple[int, int] | None
    quantised: bool


def describe_storage(persistent: Persistent) -> Storage:
    """Reads what stands for a storage in a pickle.

    Raises:
        UnreadableTensorError: it is none, or of a type that is not known.
    """
    described = persistent.description
    if not isinstance(described, tuple) or len(described) not in (5, 6):
        raise UnreadableTensorError("its storage is described in a way that is not known")
    word, kind, key, location, number, view = (*described, None)[:6]
    if word != "storage" or not isinstance(kind, Global) or not isinstance(key, str):
        raise UnreadableTensorError("its storage is described in a way that is not known")
    name = kind.name.rpartition(".")[2]
    if name not in STORAGES and name not in QUANTISED:
        raise UnreadableTensorError(f"in a {shown(name)}, which is not known here")
    part = view[1:] if isinstance(view, tuple) and len(view) == 3 else None
    if (part is None) != (view is None) or not all(
        type(n) is int and 0 <= n < 2**62 for n in (number, *(part or ()))
    ):
        raise UnreadableTensorError("its storage has a size that makes no sense")
    dtype = DTYPES[(STORAGES | QUANTISED)[name]]
    return Storage(dtype, key, location, number, part, name in QUANTISED)
