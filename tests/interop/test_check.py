"""The stored arrays of the official model hold, and the check notices whenever one of them is another."""

import pathlib
import re

import numpy as np
import pytest

from vlmo_jax.interop import check as checking

DATA = pathlib.Path(__file__).parent.parent / "data" / "vlmo"
PRETRAIN = ["tiny_base_pretrain", "tiny_plus_pretrain"]


@pytest.fixture(scope="module", autouse=True)
def one_step():
    """All training runs of this file have the same sizes and rates: they share one compiled step."""
    steps, make = [], checking.make_train_step

    def make_once(*args, **kwargs):
        steps.extend([] if steps else [make(*args, **kwargs)])
        return steps[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "make_train_step", make_once)
        yield


@pytest.mark.parametrize("name", [*PRETRAIN, "tiny_base_train10"])
def test_official_arrays_hold(name, capsys):
    assert checking.check(DATA / f"{name}.npz") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 150 and all(line.startswith("ok") for line in lines[:-1])


@pytest.fixture(scope="module")
def references():
    """References that are loaded once; the functions they compile are shared by the tests of this file."""
    loaded = {name: checking.Reference(DATA / f"{name}.npz") for name in [*PRETRAIN, "tiny_base_train10"]}
    return {name: (reference, dict(reference.arrays)) for name, reference in loaded.items()}


@pytest.fixture
def failures(references, capsys):
    """Checks a reference with some arrays replaced; returns the names of what does not hold."""

    def run(name, changed):
        reference, arrays = references[name]
        assert set(changed) <= set(arrays)
        reference.arrays = {**arrays, **changed}
        report = checking.Report()
        with checking.jax.default_matmul_precision("highest"):
            checking.CHECKS[reference.info["kind"]](reference, report)
        lines = capsys.readouterr().out.splitlines()
        failed = {line.split("  ")[-1] for line in lines if line.startswith("NOT OK")}
        assert len(failed) == report.failed
        return failed

    return run


def moved(array):
    """The array with one entry, its largest, changed a little (or by one, for integers)."""
    changed = np.array(array)
    place = np.unravel_index(np.abs(changed).argmax(), changed.shape)
    changed[place] = changed[place] + 1 if changed.dtype.kind in "iu" else changed[place] * 1.01 + 1e-3
    return changed


@pytest.mark.parametrize("name", PRETRAIN)
def test_every_changed_result_is_noticed(references, failures, name):
    arrays = references[name][1]
    results = {key: moved(value) for key, value in arrays.items() if key.split("/")[0] in ("out", "grad", "buffer")}
    results |= {"in/text_labels": moved(arrays["in/text_labels"])}
    unread = {"grad/text_embeddings.position_embeddings.weight"} if name == "tiny_base_pretrain" else set()
    assert unread.isdisjoint(results)
    assert failures(name, results) == set(results)


@pytest.mark.parametrize("name", PRETRAIN)
def test_every_changed_weight_is_noticed(references, failures, name):
    arrays = references[name][1]
    # One tensor of each kind of place; which layer it is taken from varies.
    kinds = {re.sub(r"blocks\.\d+", "blocks", key): key for key in arrays if key.startswith("param/")}
    noise = np.random.default_rng(0)
    changed = {key: arrays[key] + noise.normal(0, 1e-3, arrays[key].shape).astype(np.float32) for key in kinds.values()}
    unnoticed = [key for key, array in changed.items() if not failures(name, {key: array})]
    relative = references[name][0].position == "relative"
    assert unnoticed == (["param/text_embeddings.position_embeddings.weight"] if relative else [])


@pytest.mark.parametrize("key", ["image", "text_ids", "text_masks", "text_ids_mlm", "text_labels_mlm"])
def test_every_changed_input_is_noticed(references, failures, key):
    array = np.array(references[PRETRAIN[0]][1][f"in/{key}"])
    array[0, 1] = 0 if key == "text_masks" else array[0, 1] + 1
    assert failures(PRETRAIN[0], {f"in/{key}": array})


def test_every_changed_result_of_training_is_noticed(references, failures):
    arrays = references["tiny_base_train10"][1]
    params = {key: moved(value) for key, value in arrays.items() if key.split("/")[0] in ("after2", "final")}
    out = {key: moved(value) for key, value in arrays.items() if key.startswith("out/")}
    failed = failures("tiny_base_train10", {**params, **out, "batch/text_labels": moved(arrays["batch/text_labels"])})
    assert {re.sub(r"\[\d+\]", "", name) for name in failed} == {*params, *out, "batch/text_labels"}


@pytest.mark.parametrize("key", ["init/logit_scale", "init/transformer.blocks.3.norm2_vl.weight",
                                 "init/text_embeddings.position_embeddings.weight", "batch/image", "batch/text_ids"])  # fmt: skip
def test_changed_start_or_batches_of_training_are_noticed(references, failures, key):
    array = np.array(references["tiny_base_train10"][1][key])
    array[(0,) * array.ndim] += 1
    assert failures("tiny_base_train10", {key: array})


def test_nan_does_not_hold(capsys):
    report = checking.Report()
    report.compare("x", [np.nan], [np.nan], 1.0)
    report.compare("y", [1.0, 2.0], [1.0], 1.0)
    assert report.failed == 2 and "shapes (2,) and (1,)" in capsys.readouterr().out


def test_refusals(tmp_path, references):
    with pytest.raises(FileNotFoundError, match="NAME.npz with NAME.json"):
        checking.check(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz")
    (tmp_path / "other.json").write_text((DATA / "tiny_base_pretrain.json").read_text().replace('"pretrain"', '"nlvr2"'))
    with pytest.raises(ValueError, match="kind 'nlvr2' is not known; known kinds: pretrain, train10"):
        checking.check(tmp_path / "other.npz")
    reference, arrays = references["tiny_base_pretrain"]
    without = lambda group: {key: a for key, a in arrays.items() if key != f"{group}/pooler.dense.bias"}
    reference.arrays = without("param")
    with pytest.raises(ValueError, match=r"missing \['pooler.dense.bias'\]; unexpected none"):
        reference.params("param")
    reference.arrays = without("grad")
    with pytest.raises(ValueError, match="no gradient of .'pooler.dense.bias'"), checking.jax.default_matmul_precision("highest"):
        checking.check_pretrain(reference, checking.Report())
    reference.arrays = {**arrays, "param/pooler.dense.bias": np.zeros(31, np.float32)}
    with pytest.raises(ValueError, match="shapes do not fit a model of the sizes in the JSON"):
        reference.params("param")
    reference.arrays = {**arrays, "param/vqa_classifier.0.weight": np.zeros(3)}
    with pytest.raises(ValueError, match=r"missing none; unexpected \['vqa_classifier.0.weight'\]"):
        reference.params("param")
