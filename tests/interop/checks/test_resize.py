"""Resized position tables and the outputs there: made with our own functions, whatever is changed
is noticed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.interop.checks.changes import failures, moved
from tests.paths import DATA
from vlmo_jax.interop.checks.outputs import model_outputs
from vlmo_jax.interop.checks.reference import Reference, load_fixture, official_batch, relative_grid
from vlmo_jax.interop.checks.resize import ABSOLUTE, RELATIVE
from vlmo_jax.interop.vlmo import from_official
from vlmo_jax.layers.resample import resample_image_positions, resample_relative_table

FIXTURES = DATA / "vlmo"


def make_case(name, new_grid, resized_params):
    """A fixture of kind `resize` from a pre-training one: 32 px to `new_grid` patches of 8 px a
    side.
    """
    arrays, info = load_fixture(FIXTURES / f"{name}.npz")
    arrays = {key: a for key, a in arrays.items() if key.split("/")[0] in ("param", "in")}
    info = {**info, "kind": "resize"}
    kind = RELATIVE if f"param/{RELATIVE}" in arrays else ABSOLUTE
    table = arrays[f"param/{kind}"]
    if kind == RELATIVE:
        layers = table.reshape(len(table), 4, 4).transpose(1, 0, 2)
        new = resample_relative_table(
            layers, grid=4, new_grid=new_grid, text_positions=20, new_text_positions=20
        )
        new = new.transpose(1, 0, 2).reshape(-1, 16)
    else:
        new = resample_image_positions(table[0], grid=4, new_grid=new_grid)[None]
    size = 8 * new_grid
    arrays["in/image"] = (
        np.random.default_rng(0).normal(0, 1, (2, 3, size, size)).astype(np.float32)
    )
    reference = Reference({**arrays, f"param/{kind}": new}, info)
    params, _ = from_official(reference.group("param"), reference.places, reference.position)
    batch = jax.tree.map(jnp.asarray, official_batch(reference.group("in")))
    names = ("infer/text_feats", "infer/image_feats", "infer/cls_feats", "infer_image/image_feats")
    with jax.default_matmul_precision("highest"):
        outputs = model_outputs(reference.graphdef, jax.tree.map(jnp.asarray, params), batch, names)
    arrays |= {f"src/{kind}": table, f"dst/{kind}": new} | {
        f"out/{name}": np.asarray(a) for name, a in outputs.items()
    }
    if resized_params:
        arrays[f"param/{kind}"] = new
    return arrays, info


@pytest.mark.parametrize(
    "name, new_grid, resized_params",
    [
        ("tiny_base_pretrain", 6, False),
        ("tiny_base_pretrain", 3, True),
        ("tiny_plus_pretrain", 7, False),
    ],
)
def test_arrays_hold_and_every_change_is_noticed(name, new_grid, resized_params):
    arrays, info = make_case(name, new_grid, resized_params)
    assert failures(arrays, info) == set()
    for key in [key for key in arrays if key.split("/")[0] in ("src", "dst")] + [
        "param/pooler.dense.weight",
        "in/image",
    ]:
        assert failures(arrays, info, {key: arrays[key] + np.float32(0.01)}), key
    outputs = {key: moved(value) for key, value in arrays.items() if key.startswith("out/")}
    assert failures(arrays, info, outputs) == set(outputs)


def test_refusals():
    assert relative_grid(94, 20) == 4
    with pytest.raises(
        ValueError, match="a relative position table of 95 rows does not fit texts of 20 tokens"
    ):
        relative_grid(95, 20)
    arrays, info = make_case("tiny_plus_pretrain", 3, False)
    without = {key: a for key, a in arrays.items() if key.split("/")[0] not in ("src", "dst")}
    with pytest.raises(ValueError, match="needs position tables src/... and dst/..."):
        failures(without, info)
    with pytest.raises(ValueError, match="a position table src/table of shape .2,. is not known"):
        failures(without, info, {"src/table": np.zeros(2), "dst/table": np.zeros(2)})
