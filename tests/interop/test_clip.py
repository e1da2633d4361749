"""CLIP's checkpoints: in by three spellings, back bit for bit, and refused where they are none."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.interop.torch_files import TorchFile, module
from tests.paths import DATA
from vlmo_jax.checkpoints.carried import carried_files
from vlmo_jax.checkpoints.saved_params import SavedParams
from vlmo_jax.inference.loading import load
from vlmo_jax.input.images.pixels import resize_centre
from vlmo_jax.interop import convert as conversion
from vlmo_jax.interop.clip import from_clip, to_clip, write_clip
from vlmo_jax.interop.clip_names import HUGGINGFACE, OPENAI
from vlmo_jax.interop.tensor_files import TensorFileError, read_tensors
from vlmo_jax.models.build import check_model

HINTS = dict(num_heads=4, activation="quick_gelu")


@pytest.fixture(scope="module")
def huggingface():
    with np.load(DATA / "siblings" / "clip.npz") as arrays:
        return {k.removeprefix("param/"): arrays[k] for k in arrays if k.startswith("param/")}


@pytest.fixture(scope="module")
def openai(huggingface):
    params, sizes, _, _ = from_clip(huggingface, num_heads=4)
    return {name: np.array(x, order="C") for name, x in to_clip(params, sizes, OPENAI).items()}


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_the_spellings_are_the_official_ones(huggingface, openai):
    q, k, v = (
        huggingface[f"text_model.encoder.layers.1.self_attn.{part}_proj.weight"] for part in "qkv"
    )
    joint = openai["transformer.resblocks.1.attn.in_proj_weight"]
    np.testing.assert_array_equal(joint, np.concatenate([q, k, v]))
    bias = openai["visual.transformer.resblocks.0.attn.in_proj_bias"]
    name = "vision_model.encoder.layers.0.self_attn.k_proj.bias"
    np.testing.assert_array_equal(bias[48:96], huggingface[name])
    np.testing.assert_array_equal(openai["visual.proj"], huggingface["visual_projection.weight"].T)
    np.testing.assert_array_equal(
        openai["visual.ln_pre.bias"], huggingface["vision_model.pre_layrnorm.bias"]
    )
    assert openai["text_projection"].shape == (32, 24) and openai["logit_scale"].shape == ()


def script(path, tensors):
    """An archive of TorchScript with these tensors, in modules as their names say."""
    file, tree = TorchFile(), {}
    for name, array in tensors.items():
        *parents, last = name.split(".")
        place = tree
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = file.tensor(array)

    def build(parts):
        made = {k: build(v) if isinstance(v, dict) else v for k, v in parts.items()}
        return module("multimodal.model", training=False, **made)

    return file.write_script(path, build(tree))


def test_openai_archives_in_halves_go_in_and_come_back(tmp_path, openai):
    halves = {
        name: x.astype(np.float16) if x.ndim > 1 and "embedding" not in name else x
        for name, x in openai.items()
    }
    scalars = dict(input_resolution=32, context_length=12, vocab_size=200)
    tensors = {**halves, **{name: np.array(x, np.int64) for name, x in scalars.items()}}
    source = script(tmp_path / "ViT-B-32.pt", tensors)
    meta = conversion.convert(source, tmp_path / "ours", "clip", num_heads=4)  # they are QuickGELU
    model = meta["config"]["model"]
    assert (model["kind"], model["activation"]) == ("clip", "quick_gelu")
    check_model(model, (1, 1, 1))
    assert meta["preprocessing"]["mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert meta["preprocessing"]["resize"] == "centre crop bicubic"
    assert meta["config"]["data"]["resize"] == "centre_crop"
    back = conversion.export(tmp_path / "ours", tmp_path / "back", "clip")
    same(read_tensors(back), tensors)
    other = conversion.export(tmp_path / "ours", tmp_path / "hf", "clip_hf")
    found = read_tensors(other)
    np.testing.assert_array_equal(found["visual_projection.weight"], halves["visual.proj"].T)
    assert "input_resolution" not in found and found["logit_scale"].dtype == np.float32


def test_open_clip_files_of_training_and_with_a_prefix(tmp_path, openai):
    file = TorchFile()
    state = {f"module.{name}": file.tensor(x) for name, x in openai.items()}
    source = file.write(tmp_path / "epoch_1.pt", {"epoch": 1, "name": "a", "state_dict": state})
    conversion.convert(source, tmp_path / "a", "clip", **HINTS)
    file = TorchFile()
    text = ("transformer.", "token_", "positional_", "ln_final", "text_projection")
    state = {("text." if n.startswith(text) else "") + n: file.tensor(x) for n, x in openai.items()}
    source = file.write(tmp_path / "open_clip_pytorch_model.bin", state)
    cfg = {
        "vision_cfg": {"width": 48, "head_width": 12},
        "text_cfg": {"width": 32, "heads": 4},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg}))
    meta = conversion.convert(source, tmp_path / "b", "clip")
    assert meta["config"]["model"]["activation"] == "gelu"
    for folder in "ab":
        same(
            read_tensors(conversion.export(tmp_path / folder, tmp_path / f"{folder}_", "clip")),
            openai,
        )


def test_huggingface_folders_go_in_and_come_back(tmp_path, source, huggingface):
    ids = {
        "text_model.embeddings.position_ids": np.arange(12)[None],
        "vision_model.embeddings.position_ids": np.arange(17)[None],
    }
    source({**huggingface, **ids}, "model.safetensors")
    heads = dict(num_attention_heads=4)
    told = {
        "model_type": "clip",
        "vision_config": heads,
        "text_config": {**heads, "eos_token_id": 2},
    }
    (tmp_path / "config.json").write_text(json.dumps(told))
    conversion.convert(tmp_path, tmp_path / "ours", "clip")
    back = conversion.export(tmp_path / "ours", tmp_path / "back", "clip_hf")
    same(read_tensors(back), {**huggingface, **ids})
    saved = SavedParams(tmp_path / "ours")
    assert saved.meta["official"]["extra"] == {"spelling": HUGGINGFACE}


def test_a_converted_one_with_its_words_answers(tmp_path, source, openai):
    words = np.random.default_rng(0).normal(size=(49_408, 32)).astype(np.float32)
    path = source({**openai, "token_embedding.weight": words})
    meta = conversion.convert(path, tmp_path / "ours", "clip", **HINTS)
    assert set(carried_files(meta)) == {"tokenizer.gz"}
    model = load(tmp_path / "ours", show_progress=False)
    assert model.tokenize("A photo of a cat").token_ids[0, :6].tolist() == [
        49406,
        320,
        1125,
        539,
        320,
        2368,
    ]
    image = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
    middle = resize_centre(Image.fromarray(image), 32)
    np.testing.assert_array_equal(model.preprocess(image)[0], np.asarray(middle))
    assert model.encode_image(image).shape == (1, 24)
    np.testing.assert_allclose(model.classify(image, ["cat", "dog"]).sum(), 1, atol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("ln_final.bias"), "missing \\['ln_final.bias'\\]"),
        (lambda t: t.update(extra=np.zeros(2, np.float32)), "unexpected \\['extra'\\]"),
        (
            lambda t: t.update({"visual.proj": np.zeros((48, 23), np.float32)}),
            "visual.proj: shape \\(48, 23\\), not \\(48, 24\\)",
        ),
        (
            lambda t: t.update(
                {"transformer.resblocks.0.attn.in_proj_bias": np.zeros(95, np.float32)}
            ),
            "in_proj_bias: shape \\(95,\\), not \\(96,\\)",
        ),
        (lambda t: t.update(vocab_size=np.array(49408)), "vocab_size is 49408, which the shapes"),
        (lambda t: t.pop("visual.conv1.weight"), "this is no CLIP: missing"),
        (
            lambda t: t.update({"visual.layer1.0.conv1.weight": np.zeros(3, np.float32)}),
            "with a ResNet",
        ),
        (
            lambda t: t.update({"visual.positional_embedding": np.zeros((18, 48), np.float32)}),
            "18 tokens are not those of a square grid",
        ),
    ],
)
def test_what_is_none_is_refused_by_name(tmp_path, source, openai, change, message):
    tensors = dict(openai)
    change(tensors)
    with pytest.raises(TensorFileError, match=message):
        conversion.convert(source(tensors), tmp_path / "ours", "clip", **HINTS)
    assert not (tmp_path / "ours").exists()


def test_hints_that_are_missing_or_of_no_use(tmp_path, source, openai):
    path = source(openai)
    for hints, message in (
        (dict(num_heads=4), "give --activation=quick_gelu"),
        (dict(num_heads=5, activation="gelu"), "5 heads do not divide a tower of width 48"),
        (dict(**HINTS, text_positions=7), "--text_positions is of no use with --from=clip"),
    ):
        with pytest.raises(TensorFileError, match=message):
            conversion.convert(path, tmp_path / "ours", "clip", **hints)
    for other in ("vlmo", "beit", "dalle"):
        with pytest.raises(
            TensorFileError, match="--activation is of no use|this is no|not a|miss"
        ):
            conversion.convert(path, tmp_path / "ours", other, activation="gelu")
    with pytest.raises(conversion.ConversionError, match="49408 tokens, but the checkpoint"):
        conversion.convert(path, tmp_path / "ours", "clip", **HINTS, tokenizer="clip")
    (tmp_path / "config.json").write_text(
        '{"model_type": "clip", "text_config": {"hidden_act": "x"}}'
    )
    with pytest.raises((TensorFileError, ValueError), match="speaks of the activation"):
        conversion.convert(path, tmp_path / "ours", "clip", num_heads=4)


def test_only_a_clip_goes_out_as_one():
    with pytest.raises(ValueError, match="is no CLIP"):
        write_clip({}, {"config": {"model": {"kind": "vlmo"}}}, {})
