"""The mesh, the one table from logical axes to mesh axes, and the placement of batches.

The mesh has three named axes. `data` holds copies of the parameters, `fsdp` also splits them,
`tensor` splits heads, feed-forward widths and the vocabulary. A batch is split over `data` and
`fsdp` together. Everything else in the project speaks of logical axes only.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vlmo_jax.parallel.compilation_cache import disable_unsafe_cache

MESH_AXES = ("data", "fsdp", "tensor")

# Logical axis -> mesh axes that split it. None: every device has the whole axis.
LOGICAL_AXES: dict[str, tuple[str, ...] | None] = {
    "batch": ("data", "fsdp"),
    "embed": ("fsdp",),
    "mlp": ("tensor",),
    "heads": ("tensor",),
    "vocab": ("tensor",),
    "experts": None,
    "layers": None,
}


def mesh_shape(sizes: Mapping[str, int], num_devices: int) -> tuple[int, int, int]:
    """Fills in the one -1 of a mesh and checks that the mesh covers the devices.

    Args:
        sizes: mapping with `data`, `fsdp` and `tensor`; at most one is -1, "what is left".
        num_devices: devices of the whole job.

    Returns:
        (data, fsdp, tensor), whose product is `num_devices`.

    Raises:
        ValueError: a size that is neither -1 nor positive, two -1, or a product that does not fit.
    """
    shape = [int(sizes[axis]) for axis in MESH_AXES]
    named = ", ".join(
        f"config.mesh.{axis}={size}" for axis, size in zip(MESH_AXES, shape, strict=True)
    )
    for axis, size in zip(MESH_AXES, shape, strict=True):
        if size == 0 or size < -1:
            raise ValueError(f"config.mesh.{axis}={size}: sizes are positive, or -1 (what is left)")
    if shape.count(-1) > 1:
        raise ValueError(f"{named}: at most one is -1 (what is left)")
    known = math.prod(size for size in shape if size != -1)
    if -1 in shape and num_devices % known == 0:
        shape[shape.index(-1)] = num_devices // known
    if math.prod(shape) != num_devices:
        raise ValueError(
            f"{named} does not cover the {num_devices} devices of this job; "
            f"the product must be {num_devices}, or set one axis to -1"
        )
    data, fsdp, tensor = shape
    return data, fsdp, tensor


def make_mesh(
    sizes: Mapping[str, int] | None = None, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """Makes the mesh of a job, and keeps JAX's compilation cache from it where that is not safe.

    Args:
        sizes: see `mesh_shape`; None: (devices, 1, 1).
        devices: None: all of the job.

    Returns:
        The mesh, with the axes of MESH_AXES.
    """
    disable_unsafe_cache()
    devices = jax.devices() if devices is None else devices
    shape = mesh_shape(sizes or {"data": -1, "fsdp": 1, "tensor": 1}, len(devices))
    types = (AxisType.Auto,) * len(MESH_AXES)
    return jax.make_mesh(shape, MESH_AXES, axis_types=types, devices=devices)


def partition_spec(logical_axes: Sequence[str | None]) -> PartitionSpec:
    """Translates logical axes to axes of the mesh.

    Args:
        logical_axes: a name of LOGICAL_AXES a dimension, None where it is not split.

    Returns:
        PartitionSpec.

    Raises:
        ValueError: an unknown name, or two axes of one array that want the same mesh axis.
    """
    axes: list[tuple[str, ...] | None] = []
    used: set[str] = set()
    for name in logical_axes:
        if name is not None and name not in LOGICAL_AXES:
            raise ValueError(f"unknown logical axis {name!r}; known: {sorted(LOGICAL_AXES)}")
        mesh_axes = LOGICAL_AXES[name] if name is not None else None
        if mesh_axes and used.intersection(mesh_axes):
            raise ValueError(
                f"{logical_axes}: two axes are split over {sorted(used.intersection(mesh_axes))}"
            )
        used.update(mesh_axes or ())
        axes.append(mesh_axes)
    return PartitionSpec(*axes)


def constrain(x: jax.Array, *logical_axes: str | None) -> jax.Array:
    """Asks that an array be laid out by logical axes.

    Args:
        x: an array of any shape.
        *logical_axes: as in `partition_spec`; trailing ones may be left out.

    Returns:
        The array; without a mesh in context (unit tests, one device) as it is.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, partition_spec(logical_axes))


def all_gather(x: jax.Array) -> jax.Array:
    """Gathers the rows of an array from all shards of the batch.

    This is the collective of the contrastive loss. Its transpose is the reduce-scatter that
    returns the true gradient of the global-batch loss to each shard.

    Args:
        x: [B, ...], rows split over the batch axes.

    Returns:
        [B, ...], all of it on every device.
    """
    return constrain(x, *([None] * x.ndim))


def interleave(*passes: jax.Array) -> jax.Array:
    """Several arrays [B, ...] as one [passes * B, ...], example by example, so that no row leaves
    its device.
    """
    x = jnp.stack(passes, axis=1)
    return constrain(x.reshape(-1, *x.shape[2:]), "batch")


def named_sharding(mesh: Mesh, logical_axes: Sequence[str | None]) -> NamedSharding:
    """The sharding of an array with these logical axes, one a dimension; see `partition_spec`."""
    return NamedSharding(mesh, partition_spec(logical_axes))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays [B, ...]: rows over `data` and `fsdp`."""
    return named_sharding(mesh, ("batch",))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays of which every device has all."""
    return NamedSharding(mesh, PartitionSpec())


def num_batch_shards(mesh: Mesh) -> int:
    """How many ways a batch is split on `mesh`; global batch sizes are multiples of it."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def place_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Makes global arrays from what this process holds of a batch.

    Args:
        batch: mapping name -> numpy array [B / processes, ...].
        mesh: the mesh of the job.

    Returns:
        The same mapping of jax arrays [B, ...] whose rows are split over the batch axes.
    """
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, np.ascontiguousarray(value))
        for name, value in batch.items()
    }


def param_shardings(abstract_state: nnx.State, mesh: Mesh) -> dict[str, Any]:
    """Shardings of a module's parameters by the logical axes they were declared with.

    Args:
        abstract_state: the nnx.State of `nnx.eval_shape`, its Variables carrying `out_sharding`.
        mesh: the mesh of the job.

    Returns:
        A pure nested dict of NamedSharding, shaped like `nnx.to_pure_dict(abstract_state)`.

    Raises:
        ValueError: a parameter has no logical axes, or an axis does not divide over its shards.
    """
    shardings = {}
    for path, variable in nnx.to_flat_state(abstract_state):
        name = "/".join(map(str, path))
        axes = variable.get_metadata().get("out_sharding")
        if axes is None or len(axes) != len(variable.shape):
            raise ValueError(
                f"parameter {name} {variable.shape} has logical axes {axes}, not one a dimension"
            )
        spec = partition_spec(axes)
        for size, axis in zip(variable.shape, axes, strict=True):
            mesh_axes = (LOGICAL_AXES[axis] if axis else None) or ()
            ways = math.prod(mesh.shape[mesh_axis] for mesh_axis in mesh_axes)
            if size % ways:
                raise ValueError(
                    f"parameter {name}: its {axis!r} axis of {size} does not divide over"
                    f" config.mesh.{'*'.join(mesh_axes)}={ways}; use a divisor of {size}"
                )
        shardings[path] = NamedSharding(mesh, spec)
    return nnx.traversals.unflatten_mapping(shardings)
