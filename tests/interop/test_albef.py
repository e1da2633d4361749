"""Files of the official structure become checkpoints of ours and go back; others are refused."""

import jax
import numpy as np
import pytest

import vlmo_jax
from tests.interop.torch_files import TorchFile
from tests.paths import DATA
from vlmo_jax.inference.heads import UnfitModelError
from vlmo_jax.interop import albef
from vlmo_jax.interop import convert as conversion
from vlmo_jax.interop.albef_names import momentum_name
from vlmo_jax.interop.tensor_files import read_tensors

PREDICTIONS = "text_encoder.cls.predictions."


@pytest.fixture(scope="module")
def pretrained():
    """The tensors of a file of pre-training: parameters, copies, buffers, queues."""
    with np.load(DATA / "siblings" / "albef.npz") as arrays:
        tensors = {
            name.split("/", 1)[1]: arrays[name]
            for name in arrays
            if name.startswith(("param/", "buffer/"))
        }
    for tower in ("text_encoder", "text_encoder_m"):
        words = tensors[f"{tower}.bert.embeddings.word_embeddings.weight"]
        tensors[f"{tower}.cls.predictions.decoder.weight"] = words
        tensors[f"{tower}.cls.predictions.decoder.bias"] = tensors[f"{tower}.cls.predictions.bias"]
        tensors[f"{tower}.bert.embeddings.position_ids"] = np.arange(16)[None]
    return tensors


@pytest.fixture(scope="module")
def retrieval(pretrained):
    """The tensors of a file of retrieval, without `bert.` and the head of masked words."""
    tensors = {
        name.replace(".bert.", "."): tensor
        for name, tensor in pretrained.items()
        if ".cls." not in name
    }
    return {**tensors, "idx_queue": np.full((1, 16), -100)}


def read(tensors, **hints):
    return albef.read_albef(tensors, num_heads=4, **hints)


@pytest.mark.parametrize("kind", ["pretrained", "retrieval"])
def test_a_file_comes_back_as_it_was(kind, request):
    tensors = request.getfixturevalue(kind)
    converted = read(tensors)
    assert converted.config["model"]["heads"] == (
        ("itc", "itm", "mlm") if kind == "pretrained" else ("retrieval", "itm")
    )
    assert {"image_queue", "queue_ptr", "text_encoder_m.embeddings.LayerNorm.weight"} <= {
        name.replace(".bert.", ".") for name in converted.aside
    }
    meta = {
        "config": converted.config,
        "official": {"format": "albef", "extra": converted.extra},
    }
    back = albef.write_albef(converted.params, meta, converted.aside)
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor, err_msg=name)


def test_sizes_are_those_of_the_file(pretrained):
    model = read(pretrained).config["model"]
    expected = dict(
        kind="albef",
        image_size=32,
        patch_size=8,
        vision_depth=2,
        vision_mlp_dim=64,
        depth=1,
        fusion_depth=2,
        embed_dim=16,
        text_length=16,
        text_positions=16,
        vocab_size=200,
    )
    assert {name: model[name] for name in expected} == expected


def test_a_model_of_ours_has_official_names_too(pretrained):
    converted = read(pretrained)
    params = jax.tree.map(np.asarray, converted.params)
    written = albef.write_albef(params, {"config": converted.config}, {})
    own = {name for name in pretrained if momentum_name(name) != name or "_m." not in name}
    buffers = {"image_queue", "text_queue", "queue_ptr"}
    assert set(written) == {n for n in own if not n.endswith("position_ids")} - buffers
    heads = {**converted.config["model"], "heads": ("itc", "vqa")}
    with pytest.raises(ValueError, match="'vqa', a choice of answers"):
        albef.write_albef(params, {"config": {"model": heads}}, {})


FIRST = "text_encoder.bert.encoder.layer.1."


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"text_decoder.cls.predictions.bias": np.zeros(3)},
            "of VQA: it writes answers with a dec",
        ),
        ({"cls_head.0.weight": np.zeros((3, 3))}, "of NLVR2 or visual entailment"),
        ({"ta_head.weight": np.zeros((3, 3))}, "of the second pre-training for NLVR2"),
        ({"temp": None}, r"missing \['temp'\]; unexpected none"),
        ({f"{FIRST}crossattention.self.key.bias": None}, "missing .*crossattention.self.key.bias"),
        ({"visual_encoder.blocks.1.attn.qkv.bias": None}, "missing .*blocks.1.attn.k_bias"),
        ({"prompt.weight": np.zeros(3)}, r"unexpected \['prompt.weight'\]"),
        (
            {"itm_head.weight": np.zeros((3, 32))},
            r"itm_head.weight: shape \(3, 32\), not \(2, 32\)",
        ),
        ({"visual_encoder.pos_embed": np.zeros((1, 16, 32))}, "no square grid"),
        ({f"{PREDICTIONS}decoder.bias": np.ones(200)}, "decoder.bias differs from"),
        ({"vision_proj.weight": None}, r"no ALBEF: missing .*names of LAVIS are not read"),
    ],
)
def test_other_files_are_refused(pretrained, changes, message):
    tensors = {**pretrained, **changes}
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        read(tensors)


def test_files_of_other_models_and_hints_are_refused(pretrained):
    with pytest.raises(ValueError, match="use --from=vlmo or --from=vilt"):
        read({"transformer.blocks.0.norm1.weight": np.zeros(3)})
    with pytest.raises(ValueError, match="use --from=clip"):
        read({"visual.conv1.weight": np.zeros(3)})
    with pytest.raises(ValueError, match="--image_size is of no use with --from=albef"):
        read(pretrained, image_size=64)
    with pytest.raises(ValueError, match="0 heads do not fit width 32.*give --num_heads"):
        albef.read_albef(pretrained)


def test_a_file_of_torch_goes_through_the_command_and_back(pretrained, tmp_path):
    file = TorchFile()
    tensors = {name: np.asarray(tensor) for name, tensor in pretrained.items()}
    entries = {name: file.tensor(tensor) for name, tensor in tensors.items()}
    optimizer = {"state": {}, "param_groups": [{"lr": 1e-4}]}
    content = {"model": entries, "optimizer": optimizer, "epoch": 29}
    path = file.write(tmp_path / "ALBEF.pth", content)
    meta = conversion.convert(path, tmp_path / "ours", "albef", num_heads=4)
    assert meta["preprocessing"]["image_size"] == 32
    written = conversion.export(tmp_path / "ours", tmp_path / "back", "albef")
    back = read_tensors(written)
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        np.testing.assert_array_equal(back[name], tensor, err_msg=name)
    model = vlmo_jax.load(tmp_path / "ours", show_progress=False)
    image = np.full((32, 32, 3), 200, np.uint8)
    np.testing.assert_allclose(np.linalg.norm(model.encode_image(image), axis=1), 1, rtol=1e-5)
    with pytest.raises(UnfitModelError, match="no part that answers questions"):
        model.answer(image, "what?")
