"""A step of ViLT: the stored arrays hold, and the check notices whenever one is another."""

import re

import numpy as np
import pytest

from tests.interop.checks.changes import changed_at, failures, moved
from tests.paths import DATA
from vlmo_jax.interop import check as checking
from vlmo_jax.interop.checks.reference import load_fixture

FIXTURES = DATA / "siblings"


@pytest.fixture(scope="module")
def step():
    return load_fixture(FIXTURES / "vilt.npz")


@pytest.fixture(scope="module")
def alignment():
    return load_fixture(FIXTURES / "vilt_ipot.npz")


@pytest.mark.parametrize("name", ["vilt", "vilt_ipot"])
def test_official_arrays_hold(name, capsys):
    assert checking.check(FIXTURES / f"{name}.npz") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 35 and all(line.startswith("ok") for line in lines[:-1])


INPUTS = ("image", "false_image_0", "text_ids", "text_masks", "text_ids_mlm", "text_labels_mlm")


def test_every_changed_result_is_noticed(step):
    arrays, info = step
    results = {
        name: moved(value)
        for name, value in arrays.items()
        if name not in (*INPUTS, "itm_randperm") and not name.startswith("param/")
    }
    # What stands for no patch means nothing, and is not compared.
    for name in ("mlm_image_feats", "itm_image_feats", "visual_embed"):
        results[name] = np.array(arrays[name])
        results[name][0, 1, 0] += 1e-3
    for name in ("mlm_image_masks", "itm_image_masks", "visual_embed_mask", "wpa_txt_pad"):
        results[name] = np.array(arrays[name])
        results[name][0, 0] ^= 1
    results["wpa_img_pad"] = ~arrays["wpa_img_pad"]
    for name in ("mlm_patch_index", "itm_patch_index"):
        results[name] = arrays[name] + (np.indices(arrays[name].shape)[1] == 1)
    expected = set(results)
    assert failures(arrays, info, results) == expected


def test_every_changed_weight_is_noticed(step):
    arrays, info = step
    kinds = {re.sub(r"blocks\.\d+", "blocks", key): key for key in arrays if "param/" in key}
    noise = np.random.default_rng(0)
    changed = {
        key: arrays[key] + noise.normal(0, 1e-3, arrays[key].shape).astype(np.float32)
        for key in list(kinds.values())[::3]
    }
    assert [key for key, array in changed.items() if not failures(arrays, info, {key: array})] == []


@pytest.mark.parametrize("name", [*INPUTS, "itm_randperm"])
def test_every_changed_input_is_noticed(step, name):
    arrays, info = step
    array = np.array(arrays[name])
    if name == "itm_randperm":
        array = array[::-1]
    else:
        array[0, 1] = 0 if name == "text_masks" else array[0, 1] + 1
    assert failures(arrays, info, {name: array})


def test_sizes_and_unknown_arrays(step):
    arrays, info = step
    assert failures(arrays, changed_at(info, "sizes", "L", value=11)) == {" sizes"}
    with pytest.raises(ValueError, match="outputs that are not known: .'other'"):
        failures(arrays, info, {"other": np.zeros(3)})
    with pytest.raises(ValueError, match="gradients of parameters that are not known"):
        failures(arrays, info, {"grad/other": np.zeros(3)})
    with pytest.raises(ValueError, match="unexpected .'extra'"):
        failures(arrays, info, {"param/extra": np.zeros(3)})


def test_every_changed_array_of_the_alignment_is_noticed(alignment):
    arrays, info = alignment
    given = {f"case{case}/{name}_pad" for case in range(3) for name in ("txt", "img")}
    for name, value in arrays.items():
        if name.endswith("_pad") or not name.startswith("case1"):
            continue
        changed = moved(value) if not name.endswith("_emb") else value + 0.1 * value.std()
        assert failures(arrays, info, {name: changed}), name
    assert given <= set(arrays)
    for name in ("case0/txt_pad", "case2/img_pad"):
        changed = np.array(arrays[name])
        changed[0, -1] ^= True
        assert failures(arrays, info, {name: changed}), name
