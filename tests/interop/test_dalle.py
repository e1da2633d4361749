"""Names of DALL-E's tensors go both ways without loss."""

import numpy as np
import pytest

from tests.paths import DATA
from vlmo_jax.interop.checks.reference import group
from vlmo_jax.interop.dalle import from_dalle, to_dalle

FIXTURE = DATA / "siblings" / "dvae_encoder.npz"


@pytest.fixture(scope="module")
def encoder():
    return group(np.load(FIXTURE), "param")


def test_sizes_are_found_and_names_go_both_ways(encoder):
    sizes, params = from_dalle(encoder)
    assert sizes == dict(
        vocab_size=64, num_hidden=8, num_groups=4, blocks_per_group=2, num_init=0, decoder=False
    )
    back = to_dalle(params, sizes)
    assert set(back) == {f"encoder.{name}" for name in encoder}
    for name, value in encoder.items():
        np.testing.assert_array_equal(back[f"encoder.{name}"], value)


@pytest.mark.parametrize(
    "num_init", [6, 16]
)  # 16: as wide as the first group of the decoder, whose first block has no id_path then
def test_a_whole_model_goes_both_ways(num_init):
    sizes = dict(
        vocab_size=12,
        num_hidden=4,
        num_groups=3,
        blocks_per_group=1,
        num_init=num_init,
        decoder=True,
    )
    tensors = random_tensors(sizes)
    assert "decoder.blocks.group_3.block_1.res_path.conv_4.w" in tensors
    assert ("decoder.blocks.group_1.block_1.id_path.w" in tensors) == (num_init != 16)
    found, params = from_dalle(tensors)
    assert found == sizes
    back = to_dalle(params, sizes)
    assert set(back) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(back[name], value)


def random_tensors(sizes):
    """Tensors of a whole model in the official layout, their shapes written down apart from the
    code under test.
    """
    rng, shapes = np.random.default_rng(0), {}
    widths = [sizes["num_hidden"] * 2**group for group in range(sizes["num_groups"])]
    for part, (first, size), kernels, order in (
        ("encoder", (3, 7), (3, 3, 3, 1), widths),
        ("decoder", (sizes["vocab_size"], 1), (1, 3, 3, 3), widths[::-1]),
    ):
        width = sizes["num_hidden"] if part == "encoder" else sizes["num_init"]
        shapes[f"{part}.blocks.input"] = (width, first, size)
        for number, out in enumerate(order, start=1):
            name = f"{part}.blocks.group_{number}.block_1"
            if out != width:
                shapes[f"{name}.id_path"] = (out, width, 1)
            steps = zip(
                (out // 4, out // 4, out // 4, out), (width, out // 4, out // 4, out // 4), kernels
            )
            shapes.update(
                {
                    f"{name}.res_path.conv_{number}": shape
                    for number, shape in enumerate(steps, start=1)
                }
            )
            width = out
        shapes[f"{part}.blocks.output.conv"] = (
            sizes["vocab_size"] if part == "encoder" else 6,
            width,
            1,
        )
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    weights = {
        f"{name}.w": draw(out, width, size, size) for name, (out, width, size) in shapes.items()
    }
    return {**weights, **{f"{name}.b": draw(out) for name, (out, _, _) in shapes.items()}}


def test_what_does_not_fit_is_named(encoder):
    without = {
        name: value for name, value in encoder.items() if name != "blocks.group_2.block_1.id_path.b"
    }
    with pytest.raises(ValueError, match=r"missing \['encoder.blocks.group_2.block_1.id_path.b'\]"):
        from_dalle(without)
    with pytest.raises(ValueError, match=r"unexpected \['encoder.blocks.extra.w'\]"):
        from_dalle({**encoder, "blocks.extra.w": np.zeros(3)})
    name = "blocks.group_3.block_2.res_path.conv_2.w"
    with pytest.raises(
        ValueError, match=rf"encoder.{name}: shape \(8, 8, 1, 1\), not \(8, 8, 3, 3\)"
    ):
        from_dalle({**encoder, name: encoder[name][:, :, :1, :1]})
    with pytest.raises(ValueError, match="tensor encoder.blocks.input.w is missing"):
        from_dalle({"some.weight": np.zeros((3, 3))})
    with pytest.raises(ValueError, match="looks like a decoder"):
        from_dalle({"blocks.input.w": np.zeros((128, 8192, 1, 1))})
