"""A step of stage 3: the stored arrays hold, and the check notices whenever one is another."""

import re

import numpy as np
import pytest

from tests.interop.checks.changes import failures as find_failures
from tests.interop.checks.changes import moved
from tests.paths import DATA
from vlmo_jax.interop import check as checking
from vlmo_jax.interop.checks.reference import Reference, load_fixture

FIXTURES = DATA / "vlmo"
PRETRAIN = ["tiny_base_pretrain", "tiny_plus_pretrain"]


@pytest.mark.parametrize("name", PRETRAIN)
def test_official_arrays_hold(name, capsys):
    assert checking.check(FIXTURES / f"{name}.npz") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 150 and all(line.startswith("ok") for line in lines[:-1])


@pytest.fixture(scope="module")
def references():
    """Arrays and sizes by name; the functions they compile are shared by the tests of this file."""
    return {name: load_fixture(FIXTURES / f"{name}.npz") for name in PRETRAIN}


@pytest.fixture
def failures(references):
    """Checks a fixture with some arrays replaced; returns the names of what does not hold."""

    def run(name, changed):
        arrays, info = references[name]
        assert set(changed) <= set(arrays)
        return find_failures(arrays, info, changed)

    return run


@pytest.mark.parametrize("name", PRETRAIN)
def test_every_changed_result_is_noticed(references, failures, name):
    arrays = references[name][0]
    results = {
        key: moved(value)
        for key, value in arrays.items()
        if key.split("/")[0] in ("out", "grad", "buffer")
    }
    results |= {"in/text_labels": moved(arrays["in/text_labels"])}
    unread = (
        {"grad/text_embeddings.position_embeddings.weight"}
        if name == "tiny_base_pretrain"
        else set()
    )
    assert unread.isdisjoint(results)
    assert failures(name, results) == set(results)


@pytest.mark.parametrize("name", PRETRAIN)
def test_every_changed_weight_is_noticed(references, failures, name):
    arrays = references[name][0]
    # One tensor of each kind of place; which layer it is taken from varies.
    kinds = {
        re.sub(r"blocks\.\d+", "blocks", key): key for key in arrays if key.startswith("param/")
    }
    noise = np.random.default_rng(0)
    changed = {
        key: arrays[key] + noise.normal(0, 1e-3, arrays[key].shape).astype(np.float32)
        for key in kinds.values()
    }
    unnoticed = [key for key, array in changed.items() if not failures(name, {key: array})]
    relative = name == "tiny_base_pretrain"
    assert unnoticed == (["param/text_embeddings.position_embeddings.weight"] if relative else [])


@pytest.mark.parametrize(
    "key", ["image", "text_ids", "text_masks", "text_ids_mlm", "text_labels_mlm"]
)
def test_every_changed_input_is_noticed(references, failures, key):
    array = np.array(references[PRETRAIN[0]][0][f"in/{key}"])
    array[0, 1] = 0 if key == "text_masks" else array[0, 1] + 1
    assert failures(PRETRAIN[0], {f"in/{key}": array})


def test_refusals(references):
    arrays, info = references["tiny_base_pretrain"]
    without = lambda group: {
        key: a for key, a in arrays.items() if key != f"{group}/pooler.dense.bias"
    }
    with pytest.raises(ValueError, match=r"missing \['pooler.dense.bias'\]; unexpected none"):
        Reference(without("param"), info).params("param")
    with pytest.raises(ValueError, match="no gradient of .'pooler.dense.bias'"):
        find_failures(without("grad"), info)
    changed = {**arrays, "param/pooler.dense.bias": np.zeros(31, np.float32)}
    with pytest.raises(
        ValueError,
        match=r"shapes do not fit a model of the sizes in the JSON: pooler/dense/bias: \(31,\)",
    ):
        Reference(changed, info).params("param")
    with pytest.raises(ValueError, match=r"missing none; unexpected \['extra.weight'\]"):
        Reference({**arrays, "param/extra.weight": np.zeros(3)}, info).params("param")
    with pytest.raises(ValueError, match=r"missing .*'vqa_classifier.0.bias'"):
        Reference({**arrays, "param/vqa_classifier.0.weight": np.zeros(3)}, info).params("param")
    for name, message in (
        ("out/infer/other", "outputs that are not known .*infer/other"),
        ("out/other/cls_feats", "known modes: infer"),
        ("in/boxes", "inputs that are not known: .'boxes'"),
        ("buffer/other", "buffer/other is not known"),
        ("grad/other", "gradients of parameters that are not known: .'other'"),
    ):
        with pytest.raises(ValueError, match=message):
            find_failures(arrays, info, {name: np.zeros(2)})
