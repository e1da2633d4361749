import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from tests import tiny
from vlmo_jax.layers.linear import Linear, param
from vlmo_jax.models.build import abstract_model
from vlmo_jax.parallel import sharding

MESH = dict(data=-1, fsdp=1, tensor=1)


@pytest.mark.parametrize(
    "sizes, devices, shape",
    [
        (MESH, 8, (8, 1, 1)),
        (MESH, 1, (1, 1, 1)),
        (dict(data=2, fsdp=-1, tensor=2), 8, (2, 2, 2)),
        (dict(data=2, fsdp=2, tensor=2), 8, (2, 2, 2)),
    ],
)
def test_mesh_shape(sizes, devices, shape):
    assert sharding.mesh_shape(sizes, devices) == shape


@pytest.mark.parametrize(
    "sizes, message",
    [
        (
            dict(data=3, fsdp=1, tensor=1),
            (
                "config.mesh.data=3, config.mesh.fsdp=1, config.mesh.tensor=1 does not cover the 8"
                " devices"
            ),
        ),
        (
            dict(data=-1, fsdp=3, tensor=1),
            (
                "does not cover the 8 devices of this job; the product must be 8, or set one axis"
                " to -1"
            ),
        ),
        (dict(data=16, fsdp=1, tensor=1), "does not cover the 8 devices"),
        (dict(data=-1, fsdp=-1, tensor=1), "at most one is -1"),
        (dict(data=0, fsdp=1, tensor=-1), "config.mesh.data=0: sizes are positive"),
        (dict(data=-2, fsdp=1, tensor=1), "config.mesh.data=-2: sizes are positive"),
    ],
)
def test_impossible_meshes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        sharding.mesh_shape(sizes, 8)


def test_partition_spec():
    assert sharding.partition_spec(("batch", None, "heads")) == PartitionSpec(
        ("data", "fsdp"), None, ("tensor",)
    )
    with pytest.raises(ValueError, match="unknown logical axis 'width'; known: "):
        sharding.partition_spec(("width",))
    with pytest.raises(ValueError, match="two axes are split over .'fsdp'."):
        sharding.partition_spec(("batch", "embed"))
    with pytest.raises(ValueError, match="two axes are split over .'tensor'."):
        sharding.partition_spec(("heads", "mlp"))


def test_place_batch_splits_rows():
    mesh = tiny.mesh_of((4, 2, 1))
    placed = sharding.place_batch({"x": np.arange(16).reshape(8, 2)[:, ::-1]}, mesh)["x"]
    assert placed.sharding.is_equivalent_to(sharding.batch_sharding(mesh), 2)
    assert {shard.data.shape for shard in placed.addressable_shards} == {(1, 2)}
    np.testing.assert_array_equal(placed, np.arange(16).reshape(8, 2)[:, ::-1])
    assert (
        sharding.num_batch_shards(mesh) == 8
        and sharding.num_batch_shards(tiny.mesh_of((2, 2, 2))) == 4
    )


def test_constrain_and_gather_need_no_mesh():
    x = jnp.ones((4, 2))
    assert sharding.constrain(x, "batch") is x and sharding.all_gather(x) is x


def test_gather_gives_every_device_all_rows_and_its_transpose_the_true_gradient():
    mesh = tiny.mesh_of((4, 2, 1))
    weights = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    x = sharding.place_batch(
        {"x": np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)}, mesh
    )["x"]
    with jax.set_mesh(mesh):
        gathered = jax.jit(sharding.all_gather)(x)
        assert gathered.sharding.is_fully_replicated
        loss = lambda x: jnp.vdot(
            jnp.sin(sharding.constrain(x @ sharding.all_gather(x).T, "batch")), weights
        )
        gradient = jax.jit(jax.grad(loss))(x)
    alone = np.asarray(x)
    np.testing.assert_allclose(
        gradient,
        jax.grad(lambda x: jnp.vdot(jnp.sin(x @ x.T), weights))(alone),
        rtol=1e-5,
        atol=1e-6,
    )


class Odd(nnx.Module):
    def __init__(self, rngs):
        self.linear = Linear(6, 4, axes=("embed", "mlp"), rngs=rngs)


class Bare(nnx.Module):
    def __init__(self, rngs):
        self.weight = nnx.Param(jnp.zeros((2, 2)))


class Short(nnx.Module):
    def __init__(self, rngs):
        self.weight = param(nnx.initializers.zeros, (2, 2), ("embed",), rngs)


def test_parameters_that_do_not_fit_are_refused():
    _, odd = abstract_model(Odd)
    sharding.param_shardings(odd, tiny.mesh_of((4, 2, 1)))
    with pytest.raises(
        ValueError,
        match=(
            "linear/kernel: its 'embed' axis of 6 does not divide over config.mesh.fsdp=4; use a"
            " divisor of 6"
        ),
    ):
        sharding.param_shardings(odd, tiny.mesh_of((2, 4, 1)))
    for module in (Bare, Short):
        _, abstract = abstract_model(module)
        with pytest.raises(
            ValueError, match="parameter weight .2, 2. has logical axes .*, not one a dimension"
        ):
            sharding.param_shardings(abstract, tiny.mesh_of((1, 1, 1)))
