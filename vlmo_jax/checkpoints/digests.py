"""Digests of arrays: the same however an array is split over devices and processes.

The digest of an array is the sum, modulo 2^32, of one number an element, mixed from its bits and
its place. So every part can be digested where it lies, and the parts add up. A changed element
always changes its own number; what changes in several places goes unnoticed once in 2^32.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from vlmo_jax.checkpoints.param_names import Path, flatten

_PLACE, _MIX = 0x9E3779B9, 0x7FEB352D  # odd, of well spread bits
_BLOCK = 1 << 16  # elements at a time on the host, which stay in the cache
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def digest_arrays(arrays: Mapping[Path, np.ndarray | jax.Array]) -> dict[Path, str]:
    """The digests of arrays; all processes of a job call it with theirs.

    Args:
        arrays: path -> array, on the host or on whatever devices. Types that JAX does not hold
            count as those that it makes of them, float64 as float32.

    Returns:
        path -> 8 hexadecimal digits.
    """
    on_device = [path for path, array in arrays.items() if _on_accelerator(array)]
    sums = {}
    if on_device:
        digests = jax.device_get(_device_digests([arrays[path] for path in on_device]))
        sums = dict(zip(on_device, digests, strict=True))
    on_host = [path for path in arrays if path not in sums]
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(_host_digest, (arrays[path] for path in on_host)))
    if any(isinstance(a, jax.Array) and not a.is_fully_addressable for a in arrays.values()):
        shares = multihost_utils.process_allgather(np.array(found, np.uint32))
        found = list(shares.sum(0, dtype=np.uint32))
    sums |= dict(zip(on_host, found, strict=True))
    return {path: f"{int(sums[path]):08x}" for path in arrays}


def digest_tree(params: Any) -> str:
    """One digest of a tree of parameters, by which results name what they are about; all processes
    of a job call it.

    Returns:
        64 hexadecimal digits: the SHA-256 of the lines "path digest" in the order of the paths.
    """
    digests = digest_arrays(flatten(params))
    lines = (f"{'/'.join(path)} {digest}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _on_accelerator(array: np.ndarray | jax.Array) -> bool:
    return isinstance(array, jax.Array) and next(iter(array.devices())).platform != "cpu"


@jax.jit
def _device_digests(arrays: list[jax.Array]) -> list[jax.Array]:
    return [_device_digest(array) for array in arrays]


def _device_digest(array: jax.Array) -> jax.Array:
    kind = _UNSIGNED[array.dtype.itemsize]
    values = array.astype(kind) if array.dtype == bool else array
    bits = jax.lax.bitcast_convert_type(values, kind).astype(jnp.uint32)
    place, stride = jnp.zeros(array.shape, jnp.uint32), 1
    for axis in reversed(range(array.ndim)):
        steps = jax.lax.broadcasted_iota(jnp.uint32, array.shape, axis)
        place += steps * jnp.uint32(stride % 2**32)
        stride *= array.shape[axis]
    mixed = bits ^ (place * jnp.uint32(_PLACE))
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(_MIX)
    return (mixed ^ (mixed >> 15)).sum(dtype=jnp.uint32)


def _host_digest(array: np.ndarray | jax.Array) -> np.uint32:
    """The digest of an array, or of what this process holds of it."""
    parts = (_digest_part(bits, places) for bits, places in _host_parts(array))
    return np.uint32(sum(map(int, parts)) % 2**32)


def _digest_part(bits: np.ndarray, places: Any) -> np.uint32:
    total = 0
    for start in range(0, len(bits), _BLOCK):
        block = bits[start : start + _BLOCK]
        mixed = places[start : start + len(block)] * np.uint32(_PLACE)
        mixed ^= block
        mixed ^= mixed >> np.uint32(16)
        mixed *= np.uint32(_MIX)
        mixed ^= mixed >> np.uint32(15)
        total += int(mixed.sum(dtype=np.uint32))
    return np.uint32(total % 2**32)


class _Places:
    """The places 0, 1, 2, ... of a whole array, made block by block."""

    def __getitem__(self, block: slice) -> np.ndarray:
        return np.arange(block.start, block.stop, dtype=np.uint64).astype(np.uint32)


def _host_parts(array: np.ndarray | jax.Array) -> Iterator[tuple[np.ndarray, Any]]:
    """Bits [n] and places [n] of the parts that this process holds, each element once in a job."""
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        yield _bits(np.asarray(array, jax.dtypes.canonicalize_dtype(array.dtype))), _Places()
        return
    for shard in array.addressable_shards:
        if shard.replica_id == 0:
            yield _bits(np.asarray(shard.data)), _shard_places(shard.index, array.shape)


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).reshape(-1).view(_UNSIGNED[values.dtype.itemsize])


def _shard_places(index: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    """The places in the whole array of the elements of a shard, in their order."""
    places, stride = np.zeros((1,) * len(shape), np.uint32), 1
    for axis, (part, size) in reversed(list(enumerate(zip(index, shape, strict=True)))):
        steps = np.arange(*part.indices(size), dtype=np.uint32) * np.uint32(stride % 2**32)
        places = places + steps.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        stride *= size
    return places.reshape(-1)


def changed(found: Mapping[Path, str], wanted: Mapping[Path, str]) -> list[Path]:
    """The paths whose digests differ, those without a digest on the other side included."""
    paths = sorted(set(itertools.chain(found, wanted)))
    return [path for path in paths if found.get(path) != wanted.get(path)]
