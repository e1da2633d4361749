import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from configs import common
from vlmo_jax.layers.mome_block import MomeBlock
from vlmo_jax.models.flops import block_flops, late_passes, model_flops, vlmo_passes


def paper_model(size):
    return common.model(
        size,
        image_size=224,
        patch_size=16,
        text_length=40,
        text_positions=196,
        vocab_size=30_522,
        drop_path_rate=0.1,
    )


def paper_flops(size):
    return model_flops(paper_model(size))


@pytest.mark.parametrize(
    "size, gigaflops", [("base", 221.1), ("base_plus", 223.3), ("large", 764.3)]
)
def test_a_pair_costs_what_the_official_computation_does(size, gigaflops):
    assert round(paper_flops(size).pretrain / 1e9, 1) == gigaflops


def test_a_block_of_four_times_the_width_is_the_usual_formula():
    n, d = 197, 768
    assert block_flops(n, d, 4 * d) == 24 * n * d**2 + 4 * n**2 * d


def test_a_wider_expert_costs_its_two_products_more():
    assert block_flops(10, 8, 48) - block_flops(10, 8, 32) == 2 * (2 * 10 * 8 * 16)


def test_shares_of_the_paper_recipe():
    flops, pieces = paper_flops("base"), 12 * block_flops(237, 768, 3072)
    assert 4 * pieces / flops.pretrain == pytest.approx(0.77, abs=0.005)
    assert flops.match == pieces + 2 * 196 * 768 * 768


def test_xla_counts_as_many_in_one_block():
    """The formula against XLA's own count of an unrolled forward pass, which adds only what is no
    matrix product.
    """
    n, d, f = 64, 128, 512
    with nnx.use_eager_sharding(False):
        block = MomeBlock(2, d, 4, f, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(block)

    def apply(params, x):
        block = nnx.merge(graphdef, params)
        return block.feed(
            block.attend(x, mask=None, bias=None, rate=0.0, key=None),
            (("image", n),),
            rate=0.0,
            key=None,
        )

    counted = jax.jit(apply).lower(params, jnp.zeros((1, n, d))).compile().cost_analysis()["flops"]
    assert 1 <= counted / block_flops(n, d, f) < 1.05


def test_a_text_of_stage_2_is_its_blocks_and_the_head():
    flops = paper_flops("base")
    assert flops.text_pretrain == flops.text + 40 * (2 * 768**2 + 2 * 768 * 30_522)


def test_late_fusion_is_blocks_of_each_alone_and_one_of_both():
    model = paper_model("base")
    width, mlp_dim = model["width"], model["mlp_dim"]
    alone = sum(block_flops(n, width, mlp_dim) for n in (197, 40))
    together = block_flops(237, width, mlp_dim)
    embedding = 2 * 196 * 3 * 16**2 * width
    assert late_passes(model).match == 11 * alone + together + embedding
    assert vlmo_passes(model).match == 12 * together + embedding
