"""ViLT's checkpoints: official Lightning files and HuggingFace's, in and back, and refusals."""

import jax
import numpy as np
import pytest

from tests.interop.official_weights import weights
from tests.interop.torch_files import TorchFile, call, named
from tests.paths import DATA
from vlmo_jax.checkpoints.saved_params import SavedParams
from vlmo_jax.interop import convert as conversion
from vlmo_jax.interop.huggingface_vilt import huggingface_names, to_huggingface
from vlmo_jax.interop.tensor_files import read_tensors
from vlmo_jax.models.build import abstract_params, model_maker

WIDTH = 32
HEADS = dict(num_heads=4)


def tensors_of(*heads):
    """Tensors by official name of a file with these heads, as the official code saves them."""
    with np.load(DATA / "siblings" / "vilt.npz") as arrays:
        params = {k.removeprefix("param/"): arrays[k] for k in arrays if k.startswith("param/")}
    kept = {"itm": "itm_score", "mlm": "mlm_score"}
    dropped = tuple(name for head, name in kept.items() if head not in heads)
    tensors = {k: v for k, v in params.items() if not (dropped and k.startswith(dropped))}
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    for task, inputs, classes in (("vqa", WIDTH, 7), ("nlvr2", 2 * WIDTH, 2)):
        if task in heads:
            name = f"{task}_classifier"
            tensors |= {
                f"{name}.0.weight": draw(2 * WIDTH, inputs),
                f"{name}.0.bias": draw(2 * WIDTH),
                f"{name}.1.weight": draw(2 * WIDTH),
                f"{name}.1.bias": draw(2 * WIDTH),
                f"{name}.3.weight": draw(classes, 2 * WIDTH),
                f"{name}.3.bias": draw(classes),
            }
    if "nlvr2" in heads:
        tensors["token_type_embeddings.weight"] = draw(3, WIDTH)
    if "rank" in heads:
        tensors |= {"rank_output.weight": draw(1, WIDTH), "rank_output.bias": draw(1)}
    return tensors | {"text_embeddings.position_ids": np.arange(10)[None]}


def lightning(path, tensors):
    """A Lightning checkpoint: the state dict, and things of other classes beside it."""
    file = TorchFile()
    callback = named("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")
    state = {"best_model_score": file.tensor(np.float32(0.5)), "best_model_path": "epoch=3.ckpt"}
    content = {
        "epoch": 3,
        "callbacks": {callback: state},
        "optimizer_states": [{"state": {0: {"exp_avg": file.tensor(np.ones(3, np.float32))}}}],
        "state_dict": {name: file.tensor(value) for name, value in tensors.items()},
        "hyper_parameters": call("sacred.config.custom_containers.ReadOnlyDict", {"vit": "b32"}),
    }
    return file.write(path, content)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize(
    "heads", [("itm", "mlm"), ("vqa",), ("nlvr2",), ("itm", "rank")], ids=" ".join
)
def test_official_files_go_in_and_come_back_bit_for_bit(tmp_path, heads):
    tensors = tensors_of(*heads)
    source = lightning(tmp_path / "vilt.ckpt", tensors)
    meta = conversion.convert(source, tmp_path / "ours", "vilt", **HEADS)
    model = meta["config"]["model"]
    assert set(model["heads"]) == set(heads) and model.get("num_answers", 7) == 7
    assert (model["image_size"], model["longest_side"], model["text_length"]) == (32, 53, 10)
    assert meta["preprocessing"] == {
        "image_size": 32,
        "longest_side": 53,
        "patch_size": 8,
        "resize": "patches bicubic",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    rebuilt = abstract_params(model_maker(model))
    saved = SavedParams(tmp_path / "ours")
    assert sum(x.size for x in saved.read(list(saved.shapes)).values()) == sum(
        x.size for x in jax.tree.leaves(rebuilt)
    )
    same(read_tensors(conversion.export(tmp_path / "ours", tmp_path / "back", "vilt")), tensors)


@pytest.mark.parametrize("heads", [("mlm",), ("vqa",), ("nlvr2",), ("rank",)], ids=" ".join)
def test_huggingface_files_go_in_and_come_back_bit_for_bit(tmp_path, source, heads):
    tensors = to_huggingface(tensors_of(*heads))
    names = {"vilt.encoder.layer.2.attention.attention.key.bias", "vilt.layernorm.weight"}
    assert names <= set(tensors) and not any("itm_score" in name for name in tensors)
    meta = conversion.convert(source(tensors), tmp_path / "ours", "vilt", **HEADS)
    assert tuple(meta["config"]["model"]["heads"]) == heads
    same(read_tensors(conversion.export(tmp_path / "ours", tmp_path / "back", "vilt")), tensors)


def test_both_spellings_are_the_same_model(tmp_path, source):
    tensors = tensors_of("vqa")
    places = [tmp_path / name for name in ("official", "huggingface")]
    conversion.convert(source(tensors, "a.safetensors"), places[0], "vilt", **HEADS)
    renamed = source(to_huggingface(tensors), "b.safetensors")
    conversion.convert(renamed, places[1], "vilt", **HEADS)
    one, two = (SavedParams(place) for place in places)
    same(two.read(list(two.shapes)), one.read(list(one.shapes)))
    assert huggingface_names("transformer.blocks.3.attn.qkv.bias") == [
        f"vilt.encoder.layer.3.attention.attention.{part}.bias"
        for part in ("query", "key", "value")
    ]


REFUSED = [
    (lambda t: {k: v for k, v in t.items() if k != "transformer.norm.bias"}, r"missing \['trans"),
    (lambda t: {**t, "extra.weight": np.zeros(2, np.float32)}, r"unexpected \['extra.weight'\]"),
    (lambda t: {**t, "pooler.dense.bias": np.zeros(31, np.float32)}, r"shape \(31,\), not \(32,\)"),
    (
        lambda t: {**t, "transformer.blocks.1.attn.qkv.bias": np.zeros(95, np.float32)},
        r"shape \(95,\) is not that of three biases",
    ),
    (
        lambda t: {**t, "token_type_embeddings.weight": np.zeros((3, 32), np.float32)},
        r"token_type_embeddings.weight: shape \(3, 32\)",
    ),
    (lambda t: {**t, "pooler.dense.bias": np.full(32, np.nan, np.float32)}, "not finite"),
    (
        lambda t: {**t, "transformer.pos_embed": np.zeros((1, 16, 32), np.float32)},
        "16 tokens are not those of a square grid",
    ),
    (
        lambda t: {k: v for k, v in t.items() if not k.startswith(("itm_", "mlm_"))},
        "this ViLT has no head",
    ),
    (
        lambda t: {k: v for k, v in t.items() if k != "mlm_score.decoder.weight"},
        r"missing \['mlm_score.decoder.weight'\]",
    ),
    (lambda t: weights("tiny_base_pretrain"), "it looks like a VLMo: use --from=vlmo"),
    (lambda t: {"bert.embeddings.word_embeddings.weight": np.zeros((2, 2))}, "this is no ViLT"),
]


@pytest.mark.parametrize("change, message", REFUSED)
def test_refusals(tmp_path, source, change, message):
    file = source(change(tensors_of("itm", "mlm")))
    with pytest.raises(ValueError, match=message):
        conversion.convert(file, tmp_path / "ours", "vilt", **HEADS)
    assert not (tmp_path / "ours").exists()


def test_code_in_a_lightning_file_is_refused(tmp_path):
    file = TorchFile()
    content = {"state_dict": {"a": file.tensor(np.ones(2))}, "hook": call("os.system", "true")}
    file.write(tmp_path / "vilt.ckpt", content)
    with pytest.raises(ValueError, match="asks for code beside tensors, `os.system`"):
        conversion.convert(tmp_path / "vilt.ckpt", tmp_path / "ours", "vilt", **HEADS)


def test_hints_and_other_readers(tmp_path, source):
    file = source(tensors_of("itm", "mlm"))
    with pytest.raises(ValueError, match="--image_size is of no use with --from=vilt"):
        conversion.convert(file, tmp_path / "ours", "vilt", image_size=32)
    with pytest.raises(ValueError, match="it looks like a ViLT: use --from=vilt"):
        conversion.convert(file, tmp_path / "ours", "vlmo")
    with pytest.raises(ValueError, match="width 32 is not that of 5 heads"):
        conversion.convert(file, tmp_path / "ours", "vilt", num_heads=5)
