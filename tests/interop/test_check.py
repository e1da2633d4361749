"""The stored arrays of the official model hold, and the check notices whenever one of them is
another.
"""

import re

import numpy as np
import pytest

from tests.interop.changes import failures as find_failures
from tests.interop.changes import moved
from tests.paths import DATA
from vlmo_jax.interop import check as checking
from vlmo_jax.interop.checks import train as check_train
from vlmo_jax.interop.checks.reference import Reference, load_fixture

FIXTURES = DATA / "vlmo"
PRETRAIN = ["tiny_base_pretrain", "tiny_plus_pretrain"]


@pytest.fixture(scope="module", autouse=True)
def one_step():
    """All training runs here have the same sizes and rates: they share one compiled step."""
    steps, make = [], check_train.make_train_step

    def make_once(*args, **kwargs):
        steps.extend([] if steps else [make(*args, **kwargs)])
        return steps[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_train, "make_train_step", make_once)
        yield


@pytest.mark.parametrize("name", [*PRETRAIN, "tiny_base_train10"])
def test_official_arrays_hold(name, capsys):
    assert checking.check(FIXTURES / f"{name}.npz") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 150 and all(line.startswith("ok") for line in lines[:-1])


@pytest.fixture(scope="module")
def references():
    """Arrays and sizes by name; the functions they compile are shared by the tests of this file."""
    return {
        name: load_fixture(FIXTURES / f"{name}.npz") for name in [*PRETRAIN, "tiny_base_train10"]
    }


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


def test_every_changed_result_of_training_is_noticed(references, failures):
    arrays = references["tiny_base_train10"][0]
    params = {
        key: moved(value)
        for key, value in arrays.items()
        if key.split("/")[0] in ("after2", "final")
    }
    out = {key: moved(value) for key, value in arrays.items() if key.startswith("out/")}
    failed = failures(
        "tiny_base_train10",
        {**params, **out, "batch/text_labels": moved(arrays["batch/text_labels"])},
    )
    assert {re.sub(r"\[\d+\]", "", name) for name in failed} == {*params, *out, "batch/text_labels"}


@pytest.mark.parametrize(
    "key",
    [
        "init/logit_scale",
        "init/transformer.blocks.3.norm2_vl.weight",
        "init/text_embeddings.position_embeddings.weight",
        "batch/image",
        "batch/text_ids",
    ],
)
def test_changed_start_or_batches_of_training_are_noticed(references, failures, key):
    array = np.array(references["tiny_base_train10"][0][key])
    array[(0,) * array.ndim] += 1
    assert failures("tiny_base_train10", {key: array})


def test_nan_does_not_hold(capsys):
    report = checking.Report()
    report.compare("x", [np.nan], [np.nan], 1.0)
    report.compare("y", [1.0, 2.0], [1.0], 1.0)
    assert report.failed == 2 and "shapes (2,) and (1,)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, info, kind",
    [
        ("some.npz", {"kind": "resize", "source": "beit"}, "resize"),
        ("some.npz", {"source": "DALL-E 0.1 (PyPI) dall_e.encoder.Encoder"}, "dalle"),
        ("some.npz", {"source": "microsoft/unilm beit/modeling_pretrain.py"}, "beit"),
        ("some.npz", {"source": "transformers.BeitForMaskedImageModeling"}, "beit"),
        ("dvae_encoder.npz", {}, "dalle"),
    ],
)
def test_kinds_without_a_kind(name, info, kind):
    assert checking.fixture_kind(name, info) == kind


def test_refusals(tmp_path, references):
    with pytest.raises(FileNotFoundError, match="NAME.npz with NAME.json"):
        checking.check(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz")
    (tmp_path / "other.json").write_text(
        (FIXTURES / "tiny_base_pretrain.json").read_text().replace('"pretrain"', '"vse"')
    )
    with pytest.raises(
        ValueError, match="kind 'vse' is not known; known kinds: .*irtr, nlvr2, pretrain"
    ):
        checking.check(tmp_path / "other.npz")
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
