"""Fine-tuned BEiT classifiers: official and HuggingFace's names, both ways, and what is refused."""

import json

import numpy as np
import pytest

from tests.paths import DATA
from vlmo_jax.checkpoints.carried import carried_files
from vlmo_jax.checkpoints.saved_params import SavedParams
from vlmo_jax.interop.beit import index_buffers
from vlmo_jax.interop.beit_classifier import (
    from_beit_classifier,
    hints_beside,
    read_beit_classifier,
    to_beit_classifier,
    write_beit_classifier,
    write_beit_classifier_hf,
)
from vlmo_jax.interop.convert import convert, export
from vlmo_jax.interop.huggingface_beit import from_huggingface
from vlmo_jax.interop.tensor_files import read_safetensors, write_safetensors

NAMES = ("beit_classify_perlayer", "beit_classify_shared")
CLASSES = [f"a {word}" for word in ("cat", "dog", "cow", "pig", "hen", "fox", "bat")]


def weights(name):
    arrays = np.load(DATA / "downstream" / f"{name}.npz")
    return {key.removeprefix("param/"): arrays[key] for key in arrays if key.startswith("param/")}


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and np.array_equal(ours[name], theirs[name])
        for name in theirs
    )


@pytest.mark.parametrize("name", NAMES)
def test_both_spellings_there_and_back(name):
    tensors = weights(name)
    official = from_huggingface(tensors)
    assert {"head.weight", "fc_norm.bias", "blocks.0.attn.qkv.weight"} <= official.keys()
    params, sizes, aside = from_beit_classifier(tensors)
    assert set(params) == {"image_embedding", "transformer", "pool_norm", "head"} and not aside
    assert "norm" not in params["transformer"]
    assert same(to_beit_classifier(params, sizes, huggingface=True), tensors)
    with_buffers = {**official, **index_buffers(sizes)}
    params, sizes, aside = from_beit_classifier(with_buffers)
    assert same(to_beit_classifier(params, sizes, aside), with_buffers)


def test_converted_with_its_names_and_written_in_both_spellings(tmp_path):
    tensors, folder = weights(NAMES[0]), tmp_path / "hf"
    folder.mkdir()
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps({"id2label": dict(enumerate(CLASSES))}))
    convert(folder, tmp_path / "ours", "beit_classifier")
    meta = SavedParams(tmp_path / "ours").meta
    model, ready = meta["config"]["model"], meta["preprocessing"]
    assert (model["kind"], model["num_classes"], model["image_size"]) == ("image_classifier", 7, 40)
    assert (ready["resize"], ready["crop_share"]) == ("centre crop bicubic", 0.875)
    assert carried_files(meta)["classes.txt"].decode().splitlines() == CLASSES
    back = export(tmp_path / "ours", tmp_path / "hf.safetensors", "beit_classifier_hf")
    assert same(read_safetensors(back), tensors)
    back = read_safetensors(
        export(tmp_path / "ours", tmp_path / "own.safetensors", "beit_classifier")
    )
    assert same({n: t for n, t in back.items() if "index" not in n}, from_huggingface(tensors))
    assert sum("relative_position_index" in name for name in back) == 3


def test_a_classifier_that_was_trained_here_is_written():
    converted = read_beit_classifier(weights(NAMES[0]))
    meta = {"config": converted.config}
    assert same(write_beit_classifier_hf(converted.params, meta, {}), weights(NAMES[0]))
    with pytest.raises(ValueError, match="'beit' is no image_classifier"):
        write_beit_classifier({}, {"config": {"model": {"kind": "beit"}}}, {})


def test_names_beside_tensors_are_only_taken_where_they_are_names(tmp_path):
    file = tmp_path / "config.json"
    assert hints_beside(tmp_path / "model.safetensors") == {}
    unnamed = '{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}'
    for text in (
        unnamed,
        "{",
        "[]",
        '{"id2label": {"1": "a"}}',
        '{"id2label": {"0": "a", "1": "a"}}',
    ):
        file.write_text(text)
        assert hints_beside(tmp_path) == {}
    file.write_text('{"id2label": {"0": "a", "1": "b"}}')
    assert hints_beside(tmp_path) == {"classes": ["a", "b"]}
    assert not read_beit_classifier(weights(NAMES[0]), classes=["a", "b"]).files


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda t: t.pop("fc_norm.weight"),
            "no classifier .*missing fc_norm.weight; .*--from=beit",
        ),
        (
            lambda t: t.update({"head.bias": np.zeros(3, np.float32)}),
            "does not fit a BEiT of width",
        ),
        (lambda t: t.update({"norm.weight": t["fc_norm.weight"]}), "norm"),
        (lambda t: t.update({"more.weight": np.zeros(3)}), "unexpected .*more.weight"),
        (lambda t: t.update({"head.weight": np.zeros(3)}), "head.weight"),
    ],
)
def test_other_tensors_are_refused(change, message):
    tensors = dict(from_huggingface(weights(NAMES[0])))
    change(tensors)
    with pytest.raises(ValueError, match=message):
        from_beit_classifier(tensors)
