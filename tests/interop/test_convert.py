"""Conversion in and out: exact both ways, usable by warm starts, and nothing left behind by what
fails.
"""

import hashlib
import json

import jax
import ml_dtypes
import numpy as np
import pytest

from configs import stage3
from tests import tiny
from tests.interop.official_weights import weights
from tests.interop.torch_files import TorchFile
from tests.paths import DATA
from vlmo_jax.checkpoints.earlier import upgrade_config
from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.checkpoints.saved_params import SavedParams, load_params
from vlmo_jax.checkpoints.warm_start.load import warm_start
from vlmo_jax.interop import convert as conversion
from vlmo_jax.interop.formats import write_vlmo
from vlmo_jax.interop.tensor_files import read_tensors, write_safetensors
from vlmo_jax.interop.vlmo import from_official, official_places
from vlmo_jax.interop.vlmo_sizes import find_sizes
from vlmo_jax.models.build import abstract_params, model_maker
from vlmo_jax.recipes.tasks.saved_visual_tokenizer import VisualTokenizer

VLMO = {
    "tiny_base_pretrain": dict(image_size=32),
    "tiny_base_vqa": dict(text_positions=20),
    "tiny_base_textmlm": dict(image_size=32),
    "tiny_plus_pretrain": dict(num_heads=4),
}


def sibling(name):
    with np.load(DATA / "siblings" / f"{name}.npz") as arrays:
        return {
            key.removeprefix("param/"): arrays[key] for key in arrays if key.startswith("param/")
        }


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].tobytes() == value.tobytes(), name


def rebuilt_shapes(meta):
    """Shapes of the parameters, by path, of the model that a checkpoint's config describes."""
    model = abstract_params(model_maker(meta["config"]["model"]))
    return {path: leaf.shape for path, leaf in flatten(model).items()}


def saved_shapes(saved):
    return {path: leaf.shape for path, leaf in saved.shapes.items()}


@pytest.mark.parametrize("name", VLMO)
def test_vlmo_goes_in_and_comes_back_bit_for_bit(tmp_path, source, name):
    tensors = weights(name)
    meta = conversion.convert(source(tensors), tmp_path / "ours", "vlmo", **VLMO[name])
    saved = SavedParams(tmp_path / "ours")
    assert (saved.step, saved.meta) == (0, meta)
    back = conversion.export(tmp_path / "ours", tmp_path / "back", "vlmo")
    same(read_tensors(back), tensors)
    assert rebuilt_shapes(meta) == saved_shapes(saved)
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_checkpoint_starts_runs_and_evaluations(tmp_path, source):
    tensors = weights("tiny_base_pretrain")
    meta = conversion.convert(source(tensors), tmp_path / "ours", "vlmo", image_size=32)
    model = {**meta["config"]["model"], "image_size": 48}
    abstract = abstract_params(model_maker(meta["config"]["model"]))
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), abstract)
    expected, _ = from_official(
        tensors,
        official_places(
            depth=4, num_upper=2, num_heads=4, patch_size=8, position="relative", layer_scale=True
        ),
        "relative",
    )
    params, step, _ = load_params(tmp_path / "ours", wanted)
    assert step == 0
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    rules = dict(rules=((".*bias", "resample"), (".*", "copy")), fresh=())
    params, _ = warm_start(
        tmp_path / "ours", wanted, lambda: None, **rules, model=meta["config"]["model"]
    )
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    wanted["transformer"]["relative_position_bias"] = jax.ShapeDtypeStruct(
        (4, 121 + 45, 4), np.float32, sharding=here
    )
    params, report = warm_start(tmp_path / "ours", wanted, lambda: None, **rules, model=model)
    assert [name for name, _ in report.resampled] == ["transformer/relative_position_bias"]


def test_half_precision_comes_back(tmp_path, source):
    tensors = {
        name: (
            value.astype(ml_dtypes.bfloat16 if "mlp" in name else np.float16)
            if value.dtype == np.float32
            else value
        )
        for name, value in weights("tiny_base_vqa").items()
    }
    meta = conversion.convert(source(tensors), tmp_path / "ours", "vlmo", image_size=32)
    assert set(meta["official"]["types"].values()) == {"float16", "bfloat16"}
    assert {leaf.dtype.name for leaf in SavedParams(tmp_path / "ours").shapes.values()} == {
        "float32"
    }
    same(
        read_tensors(conversion.export(tmp_path / "ours", tmp_path / "back.safetensors", "vlmo")),
        tensors,
    )


def test_files_are_mapped_anew_now_and_then(tmp_path, source, monkeypatch):
    monkeypatch.setattr("vlmo_jax.interop.float32_tensors.REMAP_BYTES", 10_000)
    tensors, reads = weights("tiny_base_vqa"), []
    monkeypatch.setattr(
        conversion, "read_tensors", lambda path: reads.append(path) or read_tensors(path)
    )
    conversion.convert(source(tensors), tmp_path / "ours", "vlmo", image_size=32)
    assert len(reads) > 10
    same(read_tensors(conversion.export(tmp_path / "ours", tmp_path / "back", "vlmo")), tensors)


def test_tokenizer_is_kept_inside(tmp_path, source, capsys):
    tensors = weights("tiny_base_pretrain")
    vocabulary = DATA / "wordpiece_vocab.txt"
    rows = len(vocabulary.read_text().split())
    for name in ("text_embeddings.word_embeddings.weight", "mlm_score.decoder.weight"):
        tensors[name] = np.resize(tensors[name], (rows, 32))
    tensors["mlm_score.bias"] = np.resize(tensors["mlm_score.bias"], rows)
    file = source(tensors)
    meta = conversion.convert(
        file, tmp_path / "a", "vlmo", tokenizer=str(vocabulary), image_size=32
    )
    kept = tmp_path / "a" / "wordpiece_vocab.txt"
    assert kept.read_bytes() == vocabulary.read_bytes()
    assert meta["tokenizer"] == {
        "file": str(kept),
        "sha256": hashlib.sha256(vocabulary.read_bytes()).hexdigest(),
    }
    (tmp_path / "vocab.txt").write_bytes(vocabulary.read_bytes())
    assert conversion.convert(file, tmp_path / "b", "vlmo", image_size=32)["tokenizer"][
        "file"
    ] == str(tmp_path / "b" / "vocab.txt")
    (tmp_path / "vocab.txt").unlink()
    assert conversion.convert(file, tmp_path / "c", "vlmo", image_size=32)["tokenizer"] is None
    assert "give --tokenizer=vocab.txt" in capsys.readouterr().err


def test_trained_checkpoint_is_exported_with_every_name():
    """A model of ours has all names of the official one, with zeros where nothing is read."""
    model = {
        **stage3.get_config("base").model.to_dict(),
        **find_sizes(weights("tiny_base_pretrain"), image_size=32),
    }
    expected = weights("tiny_base_pretrain")
    places = official_places(
        depth=4, num_upper=2, num_heads=4, patch_size=8, position="relative", layer_scale=True
    )
    params, _ = from_official(expected, places, "relative")
    tensors = write_vlmo(params, {"config": {"kind": "pairs", "model": model}}, {})
    assert {name: value.shape for name, value in tensors.items()} == {
        name: value.shape
        for name, value in expected.items()
        if not name.endswith(("position_ids", "token_type_ids"))
    }
    assert not tensors["text_embeddings.position_embeddings.weight"].any()


@pytest.mark.parametrize(
    "format_name, fixture",
    [
        ("beit", "beit_shared_relpos"),
        ("beit", "beit_official_abspos_perlayer"),
        ("dalle", "dvae_encoder"),
    ],
)
def test_siblings_go_in_and_come_back_bit_for_bit(tmp_path, source, format_name, fixture):
    tensors = sibling(fixture)
    info = json.loads((DATA / "siblings" / f"{fixture}.json").read_text())
    hints = {"num_heads": info["config"].get("heads")} if format_name == "beit" else {}
    meta = conversion.convert(source(tensors), tmp_path / "ours", format_name, **hints)
    assert meta["tokenizer"] is None
    assert rebuilt_shapes(meta) == saved_shapes(SavedParams(tmp_path / "ours"))
    same(
        read_tensors(conversion.export(tmp_path / "ours", tmp_path / "back", format_name)), tensors
    )
    with pytest.raises(ValueError, match="no VLMo"):
        conversion.export(tmp_path / "ours", tmp_path / "other", "vlmo")


AT_32_PIXELS = dict(image_size=32)
CENTRED = dict(mean=[0.5] * 3, std=[0.5] * 3)


@pytest.mark.parametrize(
    "tensors, hints, recipe, kind, data",
    [
        (lambda: weights("tiny_base_pretrain"), AT_32_PIXELS, "stage3:base", "vlmo", CENTRED),
        (lambda: weights("tiny_base_vqa"), AT_32_PIXELS, "stage3:base", "vlmo", CENTRED),
        (lambda: weights("tiny_base_textmlm"), AT_32_PIXELS, "stage2:base", "vlmo", CENTRED),
        (lambda: sibling("beit_shared_relpos"), {}, "stage1:base,32", "beit", CENTRED),
        (lambda: sibling("dvae_encoder"), {}, "tokenizer:dalle", "discrete_vae", {}),
    ],
    ids=["pretrain", "vqa", "textmlm", "beit", "dalle"],
)
def test_checkpoint_carries_the_whole_config_of_a_recipe(
    tmp_path, source, tensors, hints, recipe, kind, data
):
    format_name = {"vlmo": "vlmo", "beit": "beit", "discrete_vae": "dalle"}[kind]
    meta = conversion.convert(source(tensors()), tmp_path / "ours", format_name, **hints)
    config = meta["config"]
    expected = upgrade_config(json.loads(tiny.parse(recipe).to_json()))
    assert config["model"]["kind"] == expected["model"]["kind"] == kind
    assert set(expected["model"]) <= set(config["model"])
    assert config.pop("model") != expected.pop("model")
    assert config.pop("data") == {**expected.pop("data"), **data}
    assert config == expected
    assert config.get("tokenizer") is None and config.get("visual_tokenizer") is None


@pytest.mark.parametrize(
    "format_name, tensors, kind",
    [
        ("vlmo", lambda: weights("tiny_plus_pretrain"), "pairs"),
        ("vlmo", lambda: weights("tiny_base_textmlm"), "texts"),
        ("beit", lambda: sibling("beit_shared_relpos"), "images"),
        ("dalle", lambda: sibling("dvae_encoder"), "tokenizer"),
    ],
    ids=["pairs", "texts", "images", "tokenizer"],
)
def test_checkpoint_of_version_0_1_is_exported_and_used(
    tmp_path, source, monkeypatch, format_name, tensors, kind
):
    """Its meta has a config of three fields, and the kind above them instead of in the model."""
    save, tensors = conversion.save_params, tensors()
    hints = {"pairs": dict(num_heads=4), "texts": dict(image_size=32)}.get(kind, {})

    def save_as_before(directory, params, meta):
        model = {name: value for name, value in meta["config"]["model"].items() if name != "kind"}
        model.pop("decoder", None)
        save(directory, params, {**meta, "config": {"kind": kind, "model": model, "data": {}}})

    monkeypatch.setattr(conversion, "save_params", save_as_before)
    conversion.convert(source(tensors), tmp_path / "ours", format_name, **hints)
    [written] = (tmp_path / "ours").rglob("meta/metadata")
    assert json.loads(written.read_text())["config"]["kind"] == kind
    model = SavedParams(tmp_path / "ours").meta["config"]["model"]
    assert model["kind"] == {"vlmo": "vlmo", "beit": "beit", "dalle": "discrete_vae"}[format_name]
    same(
        read_tensors(conversion.export(tmp_path / "ours", tmp_path / "back", format_name)), tensors
    )
    if format_name != "vlmo":
        with pytest.raises(ValueError, match="config.model.kind='.*' is no VLMo"):
            conversion.export(tmp_path / "ours", tmp_path / "other", "vlmo")
    if kind == "tokenizer":
        visual_tokenizer = VisualTokenizer(tmp_path / "ours")
        assert visual_tokenizer.vocab_size == 64 and not visual_tokenizer.has_decoder


def test_wrapped_torch_file_of_wider_types_comes_back(tmp_path, capsys):
    """Names are unwrapped and said; what float32 holds of float64 and whole numbers is kept."""
    tensors = weights("tiny_base_vqa")
    tensors["vqa_classifier.0.bias"] = tensors["vqa_classifier.0.bias"].astype(np.float64)
    tensors["pooler.dense.bias"] = np.arange(32)
    file = TorchFile()
    wrapped = {f"module._orig_mod.{name}": file.tensor(value) for name, value in tensors.items()}
    counter = {"n_averaged": file.tensor(np.asarray(4))}
    file.write(tmp_path / "a.pt", {"state_dict": counter | wrapped, "epoch": 3})
    meta = conversion.convert(tmp_path / "a.pt", tmp_path / "ours", "vlmo", image_size=32)
    assert (
        f"a.pt: took off module._orig_mod. from {len(tensors)} names; left out n_averaged; left out"
        " epoch\n" in capsys.readouterr().out
    )
    assert meta["official"]["types"]["vqa_classifier.0.bias"] == "float64"
    assert {leaf.dtype.name for leaf in SavedParams(tmp_path / "ours").shapes.values()} == {
        "float32"
    }
    same(read_tensors(conversion.export(tmp_path / "ours", tmp_path / "back", "vlmo")), tensors)


def test_folder_of_transformers_is_converted(tmp_path):
    (tmp_path / "beit").mkdir()
    tensors = sibling("beit_shared_relpos")
    write_safetensors(tmp_path / "beit" / "model.safetensors", tensors)
    conversion.convert(tmp_path / "beit", tmp_path / "ours", "beit")
    same(read_tensors(conversion.export(tmp_path / "ours", tmp_path / "back", "beit")), tensors)


def test_torch_file_comes_back(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = weights("tiny_base_vqa")
    torch.save(
        {"state_dict": {f"module.{k}": torch.from_numpy(v) for k, v in tensors.items()}},
        tmp_path / "official.ckpt",
    )
    conversion.convert(tmp_path / "official.ckpt", tmp_path / "ours", "vlmo", image_size=32)
    back = conversion.export(tmp_path / "ours", tmp_path / "back.pt", "vlmo")
    found = torch.load(back, weights_only=True)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], torch.from_numpy(value)) for name, value in tensors.items())
