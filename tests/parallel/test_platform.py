"""A program's platform is that of its mesh, whatever this machine is."""

import jax
import pytest

from vlmo_jax.layers.attention_paths import takes_cudnn
from vlmo_jax.parallel.platform import for_nvidia, on_nvidia


def mesh_of(platform, kind):
    device = jax.sharding.AbstractDevice(device_kind=kind, num_cores=None, platform=platform)
    return jax.sharding.AbstractMesh((1,), ("data",), abstract_device=device)


@pytest.mark.parametrize(
    "platform, kind, expected",
    [
        ("gpu", "NVIDIA H200", True),
        ("gpu", "AMD Instinct MI300X", False),
        ("tpu", "TPU v5 lite", False),
        ("cpu", "cpu", False),
    ],
)
def test_the_mesh_decides(platform, kind, expected):
    with jax.sharding.use_abstract_mesh(mesh_of(platform, kind)):
        assert for_nvidia() == expected
        # Without a trial: the kernel is not here.
        shape = (2, 12, 238, 64)
        assert takes_cudnn("auto", shape, "bfloat16", mask=None, biased=True) == expected
    assert not for_nvidia() and not on_nvidia()
