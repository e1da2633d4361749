"""Which platform a program is compiled for, which may be another than that of this machine."""

import jax
import jax.extend.backend


def for_nvidia() -> bool:
    """Whether what is traced now is for NVIDIA GPUs: those of the mesh in context, or this
    machine's.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    if device is not None:
        return is_nvidia(device.platform, device.device_kind)
    return on_nvidia()


def on_nvidia() -> bool:
    """Whether this machine computes on NVIDIA GPUs."""
    backend = jax.extend.backend.get_backend()
    return backend.platform == "gpu" and "cuda" in backend.platform_version.lower()


def is_nvidia(platform: str, device_kind: str) -> bool:
    """Whether devices are NVIDIA GPUs.

    Args:
        platform, device_kind: of a `jax.Device`.
    """
    return platform == "gpu" and "nvidia" in device_kind.lower()
