"""The decoder against a plain numpy one, shapes at any size, and what the model refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.interop.dalle import to_dalle
from vlmo_jax.models.build import abstract_model
from vlmo_jax.models.dvae import DiscreteVAE, map_pixels, pixels_from_statistics, unmap_pixels
from vlmo_jax.parallel.sharding import make_mesh, param_shardings, partition_spec

SIZES = dict(
    vocab_size=12, num_hidden=8, num_groups=3, blocks_per_group=2, num_init=6, decoder=True
)


@functools.lru_cache
def make(**fields):
    """A model whose biases are not 0 and whose residuals show despite their gain."""
    graphdef, abstract = abstract_model(lambda rngs: DiscreteVAE(**{**SIZES, **fields}, rngs=rngs))
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        normal = rng.normal(0, 1, leaf.shape).astype(np.float32)
        return (
            0.3 * normal
            if path[-1].key == "bias"
            else 1.5 * normal / np.prod(leaf.shape[:-1]) ** 0.5
        )

    return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(draw, nnx.to_pure_dict(abstract)))


@pytest.fixture(scope="module")
def model():
    return make()


logits = nnx.jit(lambda model, image: model.logits(image))
decode = nnx.jit(lambda model, weights: model.decode(weights))


def numpy_conv(x, weight, bias):
    """x [h, w, C], weight [D, C, k, k]: zero-padded correlation, place by place."""
    size = weight.shape[-1]
    padded = np.pad(x, [(size // 2,) * 2, (size // 2,) * 2, (0, 0)])
    out = np.zeros((*x.shape[:2], len(weight)))
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            out[row, column] = np.einsum(
                "ijc,dcij->d", padded[row : row + size, column : column + size], weight
            )
    return out + bias


def numpy_decoder(x, tensors):
    """One grid [h, w, V] through the official decoder as its code says, in float64."""
    relu = lambda x: np.maximum(x, 0)
    conv = lambda x, name: numpy_conv(
        x, *(np.float64(tensors[f"decoder.blocks.{name}.{part}"]) for part in "wb")
    )
    x = conv(x, "input")
    for group in range(1, SIZES["num_groups"] + 1):
        for block in range(1, SIZES["blocks_per_group"] + 1):
            name, y = f"group_{group}.block_{block}", x
            for number in range(1, 5):
                y = conv(relu(y), f"{name}.res_path.conv_{number}")
            x = conv(x, f"{name}.id_path") if block == 1 else x
            x = x + y / (SIZES["num_groups"] * SIZES["blocks_per_group"]) ** 2
        if group < SIZES["num_groups"]:
            x = x.repeat(2, 0).repeat(2, 1)
    return conv(relu(x), "output.conv")


def test_decoder_equals_the_official_one_written_in_numpy(model):
    weights = np.random.default_rng(2).random((2, 2, 3, 12), np.float32)
    tensors = to_dalle(nnx.to_pure_dict(nnx.state(model)), SIZES)
    statistics = decode(model, weights)
    assert statistics.shape == (2, 8, 12, 6) and statistics.dtype == jnp.float32
    for ours, grid in zip(statistics, weights):
        theirs = numpy_decoder(grid, tensors)
        assert np.abs(theirs).max() > 0.5
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_one_code_covers_stride_pixels(model):
    image = jnp.asarray(np.random.default_rng(0).random((2, 8, 12, 3), np.float32))
    assert model.stride == 4
    codes = logits(model, image)
    assert codes.shape == (2, 2, 3, 12) and codes.dtype == jnp.float32
    assert decode(model, jax.nn.softmax(codes)).shape == (2, 8, 12, 6)


@pytest.mark.parametrize("size, near", [(50, "48 or 52"), (3, "4")])
def test_images_that_the_stride_does_not_divide_are_refused(model, size, near):
    with pytest.raises(
        ValueError,
        match=(
            f"image_size={size} is not a multiple of the tokenizer's stride of 4 pixels; use {near}"
        ),
    ):
        model.logits(jnp.zeros((1, size, 8, 3)))


def test_a_width_without_quarters_is_refused():
    with pytest.raises(ValueError, match="num_hidden=10 must be a multiple of 4"):
        DiscreteVAE(vocab_size=8, num_hidden=10, rngs=nnx.Rngs(0))


def test_pixels_keep_a_margin_and_come_back():
    image = jnp.linspace(0, 1, 12).reshape(1, 2, 2, 3)
    mapped = map_pixels(image)
    np.testing.assert_allclose([mapped.min(), mapped.max()], [0.1, 0.9], rtol=1e-6)
    np.testing.assert_allclose(unmap_pixels(mapped), image, atol=1e-6)
    statistics = jnp.concatenate(
        [jnp.log(mapped) - jnp.log1p(-mapped), jnp.full(mapped.shape, 7.0)], axis=-1
    )
    np.testing.assert_allclose(pixels_from_statistics(statistics), image, atol=1e-6)


def test_bfloat16_keeps_logits_and_pixels_in_float32_and_near():
    exact, half = make(), make(dtype=jnp.bfloat16)
    image = jnp.asarray(np.random.default_rng(0).random((2, 8, 12, 3), np.float32))
    codes = logits(exact, image)
    for ours, theirs in ((logits(half, image), codes), (decode(half, codes), decode(exact, codes))):
        assert ours.dtype == jnp.float32
        assert 0 < jnp.abs(ours - theirs).max() < 0.05 * jnp.abs(theirs).max()


def test_official_size_without_a_decoder_has_its_parameters_and_lies_on_a_mesh():
    _, abstract = abstract_model(
        lambda rngs: DiscreteVAE(vocab_size=8192, num_hidden=256, decoder=False, rngs=rngs)
    )
    width, total = 256, 3 * 49 * 256 + 256 + 2048 * 8192 + 8192
    for group in range(4):
        out = 256 * 2**group
        hidden = out // 4
        total += (width * out + out) * (group > 0)
        for first in (width, out):
            total += 9 * first * hidden + 2 * 9 * hidden**2 + hidden * out + 3 * hidden + out
        width = out
    assert sum(p.size for p in jax.tree.leaves(nnx.to_pure_dict(abstract))) == total
    assert "decoder" not in nnx.to_pure_dict(abstract)
    shardings = param_shardings(abstract, make_mesh({"data": 2, "fsdp": 2, "tensor": 2}))
    assert shardings["encoder"]["output"]["kernel"].spec == partition_spec(
        (None, None, "embed", "vocab")
    )


def test_the_whole_official_size_lies_on_a_mesh():
    _, abstract = abstract_model(
        lambda rngs: DiscreteVAE(vocab_size=8192, num_hidden=256, rngs=rngs)
    )
    shardings = param_shardings(abstract, make_mesh({"data": 1, "fsdp": 4, "tensor": 2}))
    assert shardings["decoder"]["input"]["kernel"].spec == partition_spec(
        (None, None, "vocab", "embed")
    )
