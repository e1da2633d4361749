"""BEiT with UperNet gives the reference numbers, and every changed array is noticed."""

import jax
import numpy as np
import pytest

from tests.interop.checks.changes import changed_at, failures, moved
from tests.paths import DATA
from vlmo_jax.interop.beit_segmenter import (
    NotASegmenterError,
    from_beit_segmenter,
    read_beit_segmenter,
    segmenter_fields,
    segmenter_sizes,
    to_beit_segmenter,
    write_beit_segmenter_hf,
)
from vlmo_jax.interop.checks import beit_segment as checked
from vlmo_jax.interop.checks.reference import group, load_fixture, same_tensors
from vlmo_jax.layers.grids import resize_bilinear
from vlmo_jax.models.build import abstract_model, model_maker, random_params

ARRAYS, INFO = load_fixture(DATA / "downstream" / "beit_segment_one_image.json")
TENSORS = {**group(ARRAYS, "param"), **group(ARRAYS, "buffer")}
SMALL = {
    "kind": "image_segmenter",
    "image_size": 32,
    "patch_size": 8,
    "width": 8,
    "depth": 4,
    "num_upper": 2,
    "num_heads": 2,
    "mlp_dim": 16,
    "num_classes": 5,
    "head_channels": 4,
    "auxiliary_channels": 6,
    "blocks": (0, 1, 2, 3),
    "pooled_parts": (1, 2, 3, 6),
    "layer_scale": 0.1,
}


def test_evaluation_is_that_of_the_official_model():
    config = INFO["config"]
    params, sizes, heads, _ = from_beit_segmenter(TENSORS, num_heads=config["num_attention_heads"])
    blocks, parts = tuple(config["blocks_used"]), tuple(config["pool_scales"])
    make = model_maker(segmenter_fields(sizes, heads, blocks=blocks, parts=parts))
    image = ARRAYS["in/pixel_values"].transpose(0, 2, 3, 1)
    graphdef, _ = abstract_model(make)
    with jax.default_matmul_precision("highest"):
        ours = checked.inside(params, graphdef, {"image": image})
    theirs = group(ARRAYS, "eval")
    classes = theirs.pop("argmax")
    differ = np.asarray(resize_bilinear(ours["logits"], classes.shape[1:])).argmax(-1) != classes
    assert differ.mean() < 0.002  # near ties
    assert len(theirs) > 9
    for name, wanted in theirs.items():
        value = np.asarray(ours[name])
        value = value.transpose(0, 3, 1, 2) if value.ndim == 4 else value
        tolerance = checked.TOLERANCES[name.partition("/")[0]]
        np.testing.assert_allclose(value, wanted, atol=tolerance, rtol=0, err_msg=name)


@pytest.fixture(scope="module")
def made():
    """A whole fixture of the same form, of a small model, by our own numbers."""
    params = jax.tree.map(np.asarray, random_params(model_maker(SMALL), 1))
    sizes = segmenter_sizes({"position": "relative", **SMALL})
    rng = np.random.default_rng(0)
    tensors = {
        name: (
            rng.random(x.shape) + 0.5 if "var" in name else x + 0.3 * rng.normal(size=x.shape)
        ).astype(np.float32)
        for name, x in to_beit_segmenter(params, sizes, huggingface=True).items()
    }
    params = from_beit_segmenter(tensors, num_heads=2)[0]
    arrays = {f"param/{name}": x for name, x in tensors.items() if "running" not in name}
    arrays |= {f"buffer/{name}": x for name, x in tensors.items() if "running" in name}
    labels = rng.integers(0, 5, (2, 32, 32)).astype(np.uint8)
    labels[:, :5] = 255
    arrays["in/labels"] = labels
    arrays["in/pixel_values"] = rng.normal(size=(2, 3, 32, 32)).astype(np.float32)
    config = {
        **INFO["config"],
        **dict(hidden_size=8, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16),
        **dict(image_size=32, patch_size=8, num_labels=5, head_channels=4, auxiliary_channels=6),
        "blocks_used": [0, 1, 2, 3],
    }
    batch = {"image": arrays["in/pixel_values"].transpose(0, 2, 3, 1), "mask": labels}
    graphdef, _ = abstract_model(model_maker(SMALL))
    channels_first = lambda x: np.moveaxis(np.asarray(x), -1, 1) if np.ndim(x) == 4 else x
    with jax.default_matmul_precision("highest"):
        for mode, learning in (("eval", False), ("train", True)):
            (_, (found, settled)), grads = checked.losses_and_gradients(
                params, graphdef, batch, 0.4, learning
            )
            arrays |= {f"{mode}/{name}": channels_first(x) for name, x in found.items()}
            grads = to_beit_segmenter(grads, sizes, huggingface=True)
            arrays |= {f"{mode}_grad/{n}": x for n, x in grads.items() if "running" not in n}
        inside = checked.inside(params, graphdef, batch)
    arrays |= {f"eval/{name}": channels_first(x) for name, x in inside.items()}
    at_pixels = resize_bilinear(np.moveaxis(arrays["eval/logits"], 1, -1), (32, 32))
    arrays["eval/argmax"] = np.asarray(at_pixels).argmax(-1).astype(np.uint8)
    moved_params = jax.tree.map(lambda x: x, params)
    merge(moved_params, settled)
    after = to_beit_segmenter(moved_params, sizes, huggingface=True)
    arrays |= {f"train_after/{name}": x for name, x in after.items() if "running" in name}
    return jax.tree.map(np.asarray, arrays), {**INFO, "config": config}


def merge(tree, part):
    for name, value in part.items():
        if isinstance(value, dict):
            merge(tree[name], value)
        else:
            tree[name] = np.asarray(value)


def test_changed_values_are_noticed(made):
    arrays, info = made
    assert failures(arrays, info) == set()
    names = {
        "train_after/decode_head.bottleneck.bn.running_var",
        "train/loss_aux",
        "eval/loss_main_mean_over_all_pixels",
        "eval/neck/0",
        "eval/hf_indexing_logits",
        "train_grad/fpn1.3.weight",
        "eval_grad/auxiliary_head.convs.0.conv.weight",
    }
    changed = {name: moved(arrays[name]) for name in names}
    changed["eval/argmax"] = np.array(arrays["eval/argmax"])
    changed["eval/argmax"][0] = (changed["eval/argmax"][0] + 1) % 5
    other = changed_at(info, "config", "batch_norm", "eps", value=1e-3)
    noticed = {*names, "eval/argmax, pixels that differ", "batch_norm"}
    assert failures(arrays, other, changed) == noticed


def test_both_spellings_lead_here_and_back():
    read = read_beit_segmenter(TENSORS, num_heads=3)
    meta = {"config": read.config}
    assert read.config["model"]["blocks"] == (0, 2, 3, 5)
    assert same_tensors(write_beit_segmenter_hf(read.params, meta, {}), TENSORS)
    with pytest.raises(NotASegmenterError, match="missing .*fpn1.0.weight"):
        read_beit_segmenter({n: x for n, x in TENSORS.items() if n != "fpn1.0.weight"}, num_heads=3)
    wide = {**TENSORS, "decode_head.bottleneck.bn.weight": np.ones(7, np.float32)}
    with pytest.raises(NotASegmenterError, match="do not fit .*bottleneck.bn.weight"):
        read_beit_segmenter(wide, num_heads=3)
