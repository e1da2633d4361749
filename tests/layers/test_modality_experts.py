import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.layers.feed_forward import FeedForward
from vlmo_jax.layers.modality_experts import EXPERTS, ModalityExperts


@pytest.fixture(scope="module")
def experts():
    return ModalityExperts(3, 8, 16, rngs=nnx.Rngs(0))


def test_experts_start_differently(experts):
    kernels = np.asarray(experts.stacked.up.kernel)
    assert (
        kernels.shape == (3, 8, 16)
        and (kernels[0] != kernels[1]).all()
        and (kernels[1] != kernels[2]).all()
    )


def test_a_branch_goes_through_the_expert_named(experts):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5, 8)), jnp.float32)
    names = ("vision_language", "image", "text")
    found = experts(x, names)
    graphdef, params = nnx.split(experts.stacked)
    stacked = lambda expert: jax.tree.map(lambda p: p[expert], params)
    for branch, name in enumerate(names):
        alone: FeedForward = nnx.merge(graphdef, stacked(EXPERTS[name]))
        np.testing.assert_allclose(found[:, branch], alone(x[:, branch]), atol=1e-6)
        np.testing.assert_allclose(found[:, branch], experts.serve(x[:, branch], name), atol=1e-6)


def test_parameters_are_annotated_with_the_experts_axis(experts):
    flat = dict(nnx.to_flat_state(nnx.state(experts)))
    axes = {path[1:]: variable.get_metadata()["out_sharding"] for path, variable in flat.items()}
    assert axes[("up", "kernel")] == ("experts", "embed", "mlp") and axes[("down", "kernel")] == (
        "experts",
        "mlp",
        "embed",
    )
    assert axes[("norm", "scale")] == ("experts", None)


def test_an_expert_that_a_block_does_not_hold_is_refused():
    image_only = ModalityExperts(1, 8, 16, rngs=nnx.Rngs(0))
    assert image_only.stacked.up.kernel.shape == (1, 8, 16)
    with pytest.raises(ValueError, match="'text'.*holds image"):
        image_only.serve(jnp.zeros((1, 2, 8)), "text")
