"""A digest is one of the values and their places, however an array lies, and nothing else."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests import tiny
from vlmo_jax.checkpoints import digests
from vlmo_jax.checkpoints.digests import changed, digest_arrays

RNG = np.random.default_rng(0)
ARRAYS = {
    "float32": RNG.normal(size=(4, 6, 8)).astype(np.float32),
    "bfloat16": RNG.normal(size=(4, 8)).astype(ml_dtypes.bfloat16),
    "bool": RNG.random((8, 4)) < 0.5,
    "int8": RNG.integers(-9, 9, (8,), np.int8),
    "scalar": np.int32(7) + np.zeros((), np.int32),
    "empty": np.zeros((0, 3), np.float32),
    "long": RNG.normal(size=(3, 70_000)).astype(np.float32),
}


def digest(array):
    return digest_arrays({("x",): array})["x",]


@pytest.mark.parametrize("name", ARRAYS)
def test_host_and_device_agree(name):
    array = ARRAYS[name]
    assert digest(array) == digest(jnp.asarray(array))
    assert int(digest(array), 16) == int(jax.jit(digests._device_digest)(array))


@pytest.mark.parametrize("spec", [("data",), (None, "fsdp"), ("data", "tensor", "fsdp")], ids=str)
def test_parts_add_up(spec):
    array = ARRAYS["float32"]
    sharded = jax.device_put(array, NamedSharding(tiny.mesh_of((2, 2, 2)), PartitionSpec(*spec)))
    assert digest(sharded) == digest(array)
    # As a process sees an array of which others hold parts.
    total = 0
    for shard in sharded.addressable_shards:
        if shard.replica_id == 0:
            places = digests._shard_places(shard.index, array.shape)
            total += int(digests._digest_part(digests._bits(np.asarray(shard.data)), places))
    assert total % 2**32 == int(digest(array), 16)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int8", "long"])
def test_every_flipped_bit_is_noticed(name):
    array = ARRAYS[name]
    expected = digest(array)
    for _ in range(64):
        damaged = bytearray(array.tobytes())
        damaged[RNG.integers(len(damaged))] ^= 1 << RNG.integers(8)
        assert digest(np.frombuffer(damaged, array.dtype).reshape(array.shape)) != expected


def test_moved_and_repeated_changes_are_noticed():
    array = ARRAYS["float32"]
    expected = digest(array)
    assert digest(array[::-1]) != expected and digest(-array) != expected
    two = array.copy()
    two[0, 0, 0], two[1, 1, 1] = -two[0, 0, 0], -two[1, 1, 1]  # the top bits, which sum to 2^32
    assert digest(two) != expected
    assert digest(np.zeros(3, np.float32)) != digest(np.zeros(4, np.float32))


def test_what_differs_is_named():
    assert changed({("a",): "1", ("b",): "2"}, {("a",): "1", ("c",): "2"}) == [("b",), ("c",)]
